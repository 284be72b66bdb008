"""Weights from elsewhere for a run's teacher: loaded strictly, with what the records say of the file."""

import hashlib
from pathlib import Path

from torch import nn

from rolewise.errors import check_path
from rolewise.pretrained.import_weights import import_weights
from rolewise.pretrained.pair import PathLike


def load_weights(model: nn.Module, path: PathLike) -> dict[str, str]:
    """Loads weights into a network, in place; every name and shape must fit. See `import_weights` for the forms.

    Returns:
        `file` and `sha256`, for records.

    Raises:
        InputError: the file cannot be read, or does not fit; nothing is changed then.
    """
    file: Path = check_path("weights", path)
    import_weights(file, model)
    return {"file": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
