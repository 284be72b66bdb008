"""From image files to classes, with any network file that says how to prepare its input."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from rolewise.errors import InputError
from rolewise.pretrained.files import describe, load_network
from rolewise.pretrained.info import NetworkInfo, Preprocessing
from rolewise.pretrained.onnx_network import onnx_network
from rolewise.pretrained.openvino_network import openvino_network
from rolewise.pretrained.pair import PathLike

if TYPE_CHECKING:
    from PIL import Image


def any_network(path: PathLike, *, threads: int | None = None) -> nn.Module:
    """The network of any form of file: safetensors, Hub folder, ONNX or OpenVINO.

    Args:
        path: a file or folder.
        threads: number of threads of onnxruntime or OpenVINO; None leaves the choice to them.

    Raises:
        InputError: a file that cannot be read.
    """
    file = Path(path)
    if file.suffix == ".onnx":
        return onnx_network(file, threads=threads)
    if file.suffix == ".xml":
        return openvino_network(file, threads=threads)
    return load_network(file)


def network_info(path: PathLike) -> NetworkInfo:
    """What a file says of its network's use.

    Raises:
        InputError: the file does not say how images are prepared.
    """
    info = NetworkInfo.from_json(describe(path).get("info", {}))
    if info.preprocessing is None:
        raise InputError(
            f"{path} does not say how images are prepared (mean, std, size). Export it again from its run: "
            f"`rolewise export RUN {path}`, or give `info=NetworkInfo(...)` to `export`."
        )
    return info


def prepare_image(path: Path, steps: Preprocessing) -> Float[Tensor, "c h w"]:
    """One image file as the network's input.

    Raises:
        InputError: the file cannot be read as an image.
    """
    # Here: networks are saved and loaded without Pillow too.
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image).convert(steps.channels)
    except UnidentifiedImageError as error:
        raise InputError(f"{path} is no image of a known format.") from error
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror or error}.") from error
    except Exception as error:  # Pillow's decoders raise whatever a broken file leads them to
        raise InputError(f"{path} is no readable image: {str(error)[:120]}.") from error
    pixels = np.asarray(_sized(upright, steps), np.float32) / 255
    values = torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1))
    return ((values - torch.tensor(steps.mean)) / torch.tensor(steps.std)).permute(2, 0, 1).contiguous()


def _sized(image: "Image.Image", steps: Preprocessing) -> "Image.Image":
    """The central square, scaled; the central part of it."""
    from PIL import Image

    height, width = steps.size
    scaled = steps.resize or max(height, width)
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side)).resize(
        (scaled, scaled), Image.Resampling.BILINEAR
    )
    left, top = (scaled - width) // 2, (scaled - height) // 2
    return square.crop((left, top, left + width, top + height))


def predict(
    path: PathLike, images: Sequence[PathLike], *, model: nn.Module | None = None
) -> list[dict[str, float]]:
    """The probabilities of the classes for each image, the most probable first.

    Args:
        path: a network file that says how images are prepared, and names its classes.
        images: image files.
        model: the file's network where it is loaded already, or is none of the package's own.

    Raises:
        InputError: a file that cannot be read.
    """
    info = network_info(path)
    assert info.preprocessing is not None
    if not images:
        return []
    inputs = torch.stack([prepare_image(Path(image), info.preprocessing) for image in images])
    network = any_network(path) if model is None else model.eval()
    with torch.no_grad():
        shares = network(inputs).double().softmax(1)
    names = info.classes or tuple(str(index) for index in range(shares.shape[1]))
    found = []
    for row in shares.tolist():
        order = sorted(range(len(row)), key=lambda index: (-row[index], index))
        found.append({names[index]: row[index] for index in order})
    return found
