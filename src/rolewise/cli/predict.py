"""`rolewise predict`: classes and probabilities of image files."""

import json
from pathlib import Path
from typing import Annotated

import typer

from rolewise._roles import STUDENT
from rolewise.errors import InputError


def predict(
    file: Annotated[
        Path,
        typer.Argument(
            help="A network: .safetensors, .onnx, .xml (OpenVINO), a saved folder, or a run (its student)."
        ),
    ],
    images: Annotated[list[Path], typer.Argument(help="Image files.")],
    network: Annotated[
        str | None, typer.Option("--network", help="Own code of the network, FILE.py:NAME, which is run.")
    ] = None,
    top: Annotated[int, typer.Option("--top", help="Number of classes to show for each image.")] = 3,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line, with all classes.")
    ] = False,
) -> None:
    """Prints the most probable classes of images."""
    if top < 1:
        raise InputError(f"`--top` must be at least 1, got {top}.")
    from rolewise import pretrained
    from rolewise.cli.network_files import (
        check_there,
        checked_run,
        is_run,
        network_file,
        open_network,
        role_of,
    )

    check_there(file)
    file = network_file(file, STUDENT) if is_run(file) else file
    pretrained.network_info(file)  # before own code is run
    config = checked_run(file, role_of(file), network)
    model = open_network(file, pretrained.describe(file), config, network)
    for image, shares in zip(images, pretrained.predict(file, images, model=model), strict=True):
        if as_json:
            print(json.dumps({"image": str(image), "probabilities": shares}))
        else:
            shown = list(shares.items())[:top]
            print(f"{image}: " + ", ".join(f"{name} {100 * share:.1f} %" for name, share in shown))
