"""`rolewise predict`: classes and probabilities of image files."""

import json
from pathlib import Path
from typing import Annotated

import typer

from rolewise.errors import InputError


def predict(
    file: Annotated[
        Path, typer.Argument(help="A network: .safetensors, .onnx, .xml (OpenVINO) or a saved folder.")
    ],
    images: Annotated[list[Path], typer.Argument(help="Image files.")],
    top: Annotated[int, typer.Option("--top", help="Number of classes to show for each image.")] = 3,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line, with all classes.")
    ] = False,
) -> None:
    """Prints the most probable classes of images."""
    if top < 1:
        raise InputError(f"`--top` must be at least 1, got {top}.")
    from rolewise import pretrained

    for image, shares in zip(images, pretrained.predict(file, images), strict=True):
        if as_json:
            print(json.dumps({"image": str(image), "probabilities": shares}))
        else:
            shown = list(shares.items())[:top]
            print(f"{image}: " + ", ".join(f"{name} {100 * share:.1f} %" for name, share in shown))
