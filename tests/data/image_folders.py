"""Small folders of images."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rolewise.data import Data, load_data
from rolewise.errors import InputError


def picture(seed: int, width: int = 32, height: int = 32) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def load(root: Path, size: int = 32, *, skip_bad: bool = False) -> Data:
    return load_data("folder", root, size=size, skip_bad=skip_bad)


def error(root: Path) -> str:
    with pytest.raises(InputError) as caught:
        _ = load(root).test
    return str(caught.value)
