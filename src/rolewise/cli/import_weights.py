"""`rolewise import-weights`: a `.pth` from elsewhere as a network file of this package."""

from pathlib import Path
from typing import Annotated

import typer

from rolewise.errors import InputError


def import_weights(
    source: Annotated[Path, typer.Argument(help="A .pth, .pt, .bin or .safetensors file.")],
    target: Annotated[Path, typer.Argument(help="The .safetensors file to write.")],
    network: Annotated[str, typer.Option("--network", help="Its architecture, such as resnet32x4.")],
    classes: Annotated[
        int | None, typer.Option("--classes", help="Number of classes (default: as the last layer has).")
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", help="Data set that it was trained on, kept in the file.")
    ] = None,
) -> None:
    """Takes over weights from RepDistiller, mdistiller or any training script; only tensors are read."""
    from rolewise import pretrained
    from rolewise.networks import build

    if target.suffix != ".safetensors":
        raise InputError(f'The file to write must end in ".safetensors", got "{target}".')
    if target.resolve() == source.resolve():
        raise InputError(f"{target} is the source itself. Choose another name.")
    if target.exists() or target.with_suffix(".json").exists():
        raise InputError(f"{target} is there already. Choose another name, or remove it.")
    state = pretrained.read_state(source)
    matrices = [tensor for tensor in state.values() if tensor.ndim == 2]
    if classes is None and not matrices:
        raise InputError(f"{source} has no linear layer that shows the number of classes: give `--classes`.")
    count = matrices[-1].shape[0] if classes is None else classes
    model = pretrained.import_weights(source, build(network, num_classes=count))
    extra = {"imported_from": source.name} | ({} if data is None else {"data": data})
    print(pretrained.save_network(model, target, extra=extra))
