"""Image data sets: digits (shipped), CIFAR-10, CIFAR-100, folders of images, and whatever own code makes.

A built-in data set is one file with its loader and one row of `DATA_SETS`; nothing here imports torch before data are
loaded, since the command line's help and the presets read the rows.
"""

import importlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rolewise.errors import InputError, InputTypeError, check_path, unknown
from rolewise.own_code import find_own_code, is_own_code, load_own_code, own_errors

if TYPE_CHECKING:
    from rolewise.data.data import Data, check_data
    from rolewise.data.images import StoredImages
    from rolewise.data.split import Channels, Split, channel_statistics

__all__ = [
    "DATA_SETS",
    "Channels",
    "Data",
    "DataSet",
    "Split",
    "StoredImages",
    "channel_statistics",
    "check_data",
    "check_data_name",
    "load_data",
    "names_of_data",
    "title_of",
]

_CLASSES = {
    "Channels": "split",
    "Data": "data",
    "Split": "split",
    "channel_statistics": "split",
    "check_data": "data",
    "StoredImages": "images",
}


@dataclass(frozen=True)
class DataSet:
    """A known data set.

    Args:
        title: name in running text.
        about: description in one phrase.
        loader: "module:function" of its loader, which takes `root` (if it needs one) and `options`.
        root: required content of `root`; None: no `root` is needed.
        options: names of the settings beyond `root` that its loader takes.
        preset: settings that fit it on a CPU, see `rolewise.config`; None: the preset "demo" is for it.
    """

    title: str
    about: str
    loader: str
    root: str | None = None
    options: tuple[str, ...] = ()
    preset: Mapping[str, Any] | None = field(default=None, hash=False)


_OPTIONS = {"size": 32, "resize": None, "channels": 3, "skip_bad": False, "store": "auto", "arguments": None}
_SMALL_CIFAR = {"data": {"search_train": 2000, "search_validation": 2000}}

DATA_SETS: Mapping[str, DataSet] = {
    "digits": DataSet(
        title="Digits",
        about="handwritten digits, 1,797 images in 10 classes, part of the package",
        loader="rolewise.data.digits:load_digits",
    ),
    "cifar10": DataSet(
        title="CIFAR-10",
        about="60,000 photographs of 32 x 32 pixels in 10 classes",
        loader="rolewise.data.cifar:load_cifar10",
        root="the folder that holds cifar-10-batches-bin, cifar-10-batches-py or an archive",
        preset=_SMALL_CIFAR,
    ),
    "cifar100": DataSet(
        title="CIFAR-100",
        about="60,000 photographs of 32 x 32 pixels in 100 classes",
        loader="rolewise.data.cifar:load_cifar100",
        root="the folder that holds cifar-100-binary, cifar-100-python or an archive",
        preset=_SMALL_CIFAR,
    ),
    "folder": DataSet(
        title="Folder",
        about="your own images",
        loader="rolewise.data.folder:load_folder",
        root="the folder that holds train/<class>/* and test/<class>/*",
        options=("size", "resize", "channels", "skip_bad", "store"),
        preset={"batch_size": 32, "epochs": (20, 10)},
    ),
}


def names_of_data() -> str:
    """The names for a help text: "digits, cifar10, ... or FILE.py:function"."""
    return f"{', '.join(DATA_SETS)} or FILE.py:function (own code that returns a Data)"


def title_of(name: str) -> str:
    """A data set's title; of own code the file's name."""
    if name in DATA_SETS:
        return DATA_SETS[name].title
    return Path(name.rpartition(":")[0]).name if is_own_code(name) else name


def check_data_name(name: str) -> None:
    """Checks a name without loading anything, or running own code.

    Raises:
        InputError: an unknown name, or a file that is not there.
    """
    if is_own_code(name):
        find_own_code(name, "data set")
    elif name not in DATA_SETS:
        hint = 'A data set of your own is given as "FILE.py:function", or as a folder of images with the name "folder".'
        raise InputError(f"{unknown('data set', name, DATA_SETS)} {hint}")


def load_data(
    name: str,
    root: str | os.PathLike[str] | None = None,
    *,
    size: int = 32,
    resize: int | None = None,
    channels: int = 3,
    skip_bad: bool = False,
    store: str = "auto",
    arguments: Mapping[str, Any] | None = None,
) -> "Data":
    """A data set by name; its training images are read now, its test images at first access.

    Args:
        name: a key of `DATA_SETS` ("digits", "cifar10", "cifar100", "folder"), or "FILE.py:function" for own code that
            returns a `Data`. That file is run as a program.
        root: folder of the files (`~` is expanded): for CIFAR the folder that holds the archive or the
            unpacked folder, for "folder" the one that holds `train` and `test`; not needed for digits. Own code gets
            it as `root`, if given.
        size: side in pixels of the images of a "folder", 1 to 1,024; the others have their own.
        resize: for a "folder", side to which images are scaled before the central part of `size` is taken.
        channels: for a "folder", 3 for RGB, 1 for gray.
        skip_bad: leave out files of a "folder" that are no readable image, instead of refusing the folder.
        store: place of the decoded images of a "folder": "auto", "always" (a mapped file), "never", or a folder.
        arguments: arguments of your own code, by name.
    Raises:
        InputError: an unknown name, no root, or files that are missing, damaged or unusable; the message
            names them.
    """
    check_data_name(name)
    given = {
        "size": size, "resize": resize, "channels": channels, "skip_bad": skip_bad, "store": store,
        "arguments": dict(arguments) if arguments else None,
    }  # fmt: skip
    takes = ("arguments",) if is_own_code(name) else DATA_SETS[name].options
    for option, value in given.items():
        if option not in takes and value != _OPTIONS[option]:
            others = [key for key, row in DATA_SETS.items() if option in row.options] or ["FILE.py:function"]
            raise InputError(
                f'`{option}` is for "{others[0]}" alone; {title_of(name)} does not take it, got {value!r}.'
            )
    if is_own_code(name):
        return _own_data(name, root, arguments or {})
    row = DATA_SETS[name]
    options: dict[str, Any] = {option: given[option] for option in takes}
    if row.root is not None:
        if root is None:
            raise InputError(f"`root` is missing: {name} needs {row.root} (command line: --data-root DIR).")
        options["root"] = check_path("root", root)
    module, _, function = row.loader.partition(":")
    data: Data = getattr(importlib.import_module(module), function)(**options)
    return data


def _own_data(spec: str, root: str | os.PathLike[str] | None, arguments: Mapping[str, Any]) -> "Data":
    """What own code returns."""
    from rolewise.data.data import Data

    code = load_own_code(spec, "data set")
    given = dict(arguments)
    if root is not None:
        given["root"] = check_path("root", root)
    with own_errors(code.path, f"{code.name}({', '.join(given)})"):
        try:
            data = code.value(**given)
        except TypeError as error:
            if error.__traceback__ is not None and error.__traceback__.tb_next is None:  # the call itself
                raise InputTypeError(
                    f'"{spec}" does not take these arguments ({", ".join(given)}): {error}.'
                ) from None
            raise
    if not isinstance(data, Data):
        raise InputTypeError(
            f'"{spec}" must return a rolewise Data, made by Data.from_arrays or Data.from_dataset, got '
            f"{type(data).__name__}."
        )
    return data


def __getattr__(name: str) -> Any:
    if name not in _CLASSES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_CLASSES[name]}"), name)
