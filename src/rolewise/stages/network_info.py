"""The description of a run's networks in their files, from the run's settings and results."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rolewise.config import Config, parse_config
from rolewise.data import Data
from rolewise.errors import InputError
from rolewise.pretrained import NetworkInfo, Preprocessing
from rolewise.runs import layout, read_config, read_results


def preprocessing(config: Config, data: Data) -> Preprocessing:
    """How the images of a run's data set become a network's input."""
    height, width, channels = (int(size) for size in data.train.images.shape[1:])
    return Preprocessing(
        mean=tuple(data.train.mean),
        std=tuple(data.train.std),
        size=(height, width),
        channels="L" if channels == 1 else "RGB",
        resize=config.data.resize,
    )


def network_info(
    config: Config, data: Data, row: Mapping[str, Any] | None = None, *, averaged: bool = False
) -> NetworkInfo:
    """The description of a network that was trained with these settings.

    Args:
        config: resolved settings of the run.
        data: the run's data set.
        row: the network's row of the result table; without it accuracy and origin are left out.
        averaged: True for the network with the averaged weights of that training, whose accuracy is another.
    """
    known = row or {}
    # The entries of a row that say what was done; figures have places of their own.
    keys = ("kd", "quantizer", "init", "schedule", "schedule_sha256", "epochs", "seed")
    made = {key: known[key] for key in keys if isinstance(known.get(key), str | int)}
    if row is not None:
        made = {"row": str(known.get("name", known.get("key"))), **made}
    if averaged:
        made["weights"] = "averaged"
    return NetworkInfo(
        preprocessing=preprocessing(config, data),
        classes=tuple(data.classes),
        data=config.data.name,
        accuracy=known.get("accuracy_averaged" if averaged else "accuracy"),
        test_images=known.get("n"),
        made=made,
    )


def run_settings(folder: Path) -> Config:
    """The settings of a run directory.

    Raises:
        InputError: not a run directory, or settings that this version does not read.
    """
    tree = read_config(folder)["config"]
    try:
        return parse_config(tree)
    except InputError as error:
        raise InputError(f"{folder / layout.CONFIG} does not hold the settings of a run: {error}") from None


def result_row(folder: Path, key: str) -> dict[str, Any] | None:
    """The row of the result table of one network of a run; None if there is none.

    Raises:
        InputError: the file of results was changed or damaged.
    """
    return next((row for row in read_results(folder / layout.RESULTS)["rows"] if row["key"] == key), None)
