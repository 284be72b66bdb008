"""Image data sets in memory: digits (shipped), CIFAR-10, CIFAR-100, folders of images."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rolewise.data.cifar import load_cifar
from rolewise.data.digits import load_digits
from rolewise.data.split import Data, Split, channel_statistics
from rolewise.errors import InputError, InputTypeError, unknown

__all__ = ["DATA_SETS", "Data", "DataSet", "Split", "channel_statistics", "load_data"]


@dataclass(frozen=True)
class DataSet:
    """A known data set: what it is, and what `root` must hold (None: it needs no `root`)."""

    title: str
    root: str | None


DATA_SETS: Mapping[str, DataSet] = {
    "digits": DataSet("handwritten digits, 1,797 images in 10 classes, part of the package", None),
    "cifar10": DataSet(
        "CIFAR-10", "the folder that holds cifar-10-batches-bin, cifar-10-batches-py or an archive"
    ),
    "cifar100": DataSet(
        "CIFAR-100", "the folder that holds cifar-100-binary, cifar-100-python or an archive"
    ),
    "folder": DataSet("one's own images", "the folder that holds train/<class>/* and test/<class>/*"),
}


def load_data(
    name: str, root: str | os.PathLike[str] | None = None, *, size: int = 32, skip_bad: bool = False
) -> Data:
    """A data set by name; its training images are read now, its test images at first access.

    Args:
        name: "digits", "cifar10", "cifar100" or "folder".
        root: where the files lie (`~` is understood): for CIFAR the folder that holds the archive or the
            unpacked folder, for "folder" the one that holds `train` and `test`; not needed for digits.
        size: side in pixels to which the images of a "folder" are brought, 1 to 1,024; the others have 32.
        skip_bad: leave out files of a "folder" that are no readable image, instead of refusing the folder.
    Raises:
        InputError: an unknown name, no root, or files that are missing, damaged or unusable; the message
            names them.
    """
    if name not in DATA_SETS:
        raise InputError(unknown("data set", name, DATA_SETS))
    if name != "folder" and size != 32:
        raise InputError(f'`size` is for "folder" alone; images of {name} are 32 x 32, got {size}.')
    if name != "folder" and skip_bad:
        raise InputError(f'`skip_bad` is for "folder" alone; the files of {name} must be the published ones.')
    if name == "digits":
        return load_digits()
    if root is None:
        raise InputError(
            f"`root` is missing: {name} needs {DATA_SETS[name].root} (command line: --data-root DIR)."
        )
    if not isinstance(root, str | os.PathLike):
        raise InputTypeError(f"`root` must be a path, got {root!r}.")
    path = Path(root).expanduser()
    if name != "folder":
        return load_cifar(name, path)
    from rolewise.data.folder import load_folder  # it alone needs Pillow

    return load_folder(path, size=size, skip_bad=skip_bad)
