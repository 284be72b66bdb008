"""`rolewise push` and `rolewise pull`: networks to and from the Hugging Face Hub."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from rolewise.cli.network_files import checked_run, info_for, network_file, open_network

Repository = Annotated[str, typer.Argument(help="Repository of the Hub: owner/name.")]


def push(
    source: Annotated[
        Path, typer.Argument(help="A .safetensors file, a saved folder, or a run directory (its student).")
    ],
    repository: Repository,
    role: Annotated[str, typer.Option("--role", help="Network of a run: student or teacher.")] = "student",
    packed: Annotated[bool, typer.Option("--packed", help="Packed weights, for inference.")] = False,
    private: Annotated[
        bool, typer.Option("--private", help="Make the repository private, if it is made now.")
    ] = False,
    revision: Annotated[
        str | None, typer.Option("--revision", help="Branch (default: the main branch).")
    ] = None,
    network: Annotated[
        str | None, typer.Option("--network", help="Own code of the network, FILE.py:NAME, which is run.")
    ] = None,
) -> None:
    """Sends a network with its model card to the Hub, and prints the commit's address."""
    from rolewise import pretrained

    pretrained.check_repository(repository)
    file = network_file(source, role)
    config, about = checked_run(file, role, network), pretrained.describe(file)
    model = open_network(file, about, config, network)
    with tempfile.TemporaryDirectory() as scratch:
        folder = pretrained.save_pretrained(
            model,
            Path(scratch) / "network",
            extra=about["extra"],
            packed=packed,
            info=info_for(file, about, role, config),
        )
        print(pretrained.push_to_hub(folder, repository, private=private, revision=revision))


def pull(
    repository: Repository,
    folder: Annotated[Path, typer.Argument(help="Folder to write, for eval, predict and export.")],
    revision: Annotated[str | None, typer.Option("--revision", help="Branch, tag or commit.")] = None,
) -> None:
    """Fetches a network from the Hub into a folder, checks it, and prints the folder."""
    from rolewise import pretrained

    print(pretrained.pull_from_hub(repository, folder, revision=revision))
