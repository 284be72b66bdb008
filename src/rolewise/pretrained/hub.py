"""Repositories of the Hugging Face Hub: folders of `save_pretrained` sent there and fetched from there."""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rolewise._version import __version__
from rolewise.errors import InputError, RunError, missing_extra
from rolewise.pretrained.files import describe
from rolewise.pretrained.pair import HUB_FILES, PathLike, read_pair
from rolewise.pretrained.targets import CARD, check_folder
from rolewise.runs import write_atomic

_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_FILES = (*HUB_FILES, CARD)


def check_repository(name: object) -> str:
    """`name` as a repository of the Hub.

    Raises:
        InputError: not of the form owner/name.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InputError(f"`repository` must be owner/name, such as ada/student-2bit, got {name!r}.")
    return name


def push_to_hub(
    folder: PathLike,
    repository: str,
    *,
    private: bool = False,
    revision: str | None = None,
    message: str | None = None,
) -> str:
    """Sends a folder that `save_pretrained` wrote to a repository, which is made if need be, as one commit.

    The access token is the one of `hf auth login`, or that of the environment variable HF_TOKEN; HF_ENDPOINT names
    another server than huggingface.co.

    Args:
        folder: what to send: `model.safetensors`, `config.json` and `README.md` of it, and nothing else.
        repository: owner/name.
        private: whether a repository that is made is private; one that is there stays as it is.
        revision: branch; None is the repository's main branch.
        message: message of the commit; None names the architecture and the version of this package.

    Returns:
        The commit's address.

    Raises:
        InputError: a folder of another kind or a damaged one, an impossible name, no token, or no right to write.
        RunError: the server cannot be reached, or failed.
        MissingExtraError: the package huggingface_hub is not installed.
    """
    repository, source = check_repository(repository), Path(folder)
    _check_complete(source)
    hub = _load_hub("Sending a folder to the Hub")
    with _hub_errors(f"Sending {source} to {repository}"):
        api = hub.HfApi(endpoint=_endpoint(), library_name="rolewise")
        api.create_repo(repository, private=private, exist_ok=True)
        operations = [
            hub.CommitOperationAdd(path_in_repo=name, path_or_fileobj=str(source / name)) for name in _FILES
        ]
        done = api.create_commit(
            repository, operations, commit_message=message or _message(source), revision=revision
        )
    return str(done.commit_url)


def pull_from_hub(repository: str, folder: PathLike, *, revision: str | None = None) -> Path:
    """Fetches a repository that `push_to_hub` made into a folder, after its files were checked.

    Args:
        repository: owner/name.
        folder: folder, made if need be. An earlier export there is replaced; files of another origin are not.
        revision: branch, tag or commit; None is the main branch.

    Returns:
        The folder, for `load_network`.

    Raises:
        InputError: no such repository or revision, one of another kind or a damaged one, or a folder that holds other
            files of these names.
        RunError: the server cannot be reached, or failed.
        MissingExtraError: the package huggingface_hub is not installed.
    """
    target = Path(folder)
    check_folder(target)
    with tempfile.TemporaryDirectory() as scratch:
        fetched = download(repository, revision=revision, to=Path(scratch), names=_FILES)
        _check_complete(fetched)
        target.mkdir(parents=True, exist_ok=True)
        for name in _FILES:
            write_atomic(target / name, (fetched / name).read_bytes())
    return target


def download(
    repository: str,
    *,
    revision: str | None = None,
    to: Path | None = None,
    names: tuple[str, ...] = HUB_FILES,
) -> Path:
    """Fetches files of a repository.

    Args:
        repository: owner/name.
        revision: branch, tag or commit; None is the main branch.
        to: folder; None is the cache of huggingface_hub.
        names: the files.

    Raises:
        InputError: no such repository or revision.
        RunError: the server cannot be reached, or failed.
        MissingExtraError: the package huggingface_hub is not installed.
    """
    repository = check_repository(repository)
    hub = _load_hub(f'"{repository}" is no folder here; loading it from the Hub')
    with _hub_errors(f"Fetching {repository}"):
        found = hub.snapshot_download(
            repository, revision=revision, local_dir=to, allow_patterns=list(names), endpoint=_endpoint()
        )
    return Path(found)


def _load_hub(who: str) -> Any:
    """The package huggingface_hub.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import huggingface_hub
    except (ImportError, RuntimeError, OSError) as error:
        raise missing_extra(who, "huggingface_hub", "hub", error) from error
    return huggingface_hub


def _endpoint() -> str | None:
    """The server; huggingface_hub reads the variable only when it is imported."""
    return os.environ.get("HF_ENDPOINT") or None


@contextmanager
def _hub_errors(what: str) -> Iterator[None]:
    """Errors of huggingface_hub as this package words them."""
    try:
        yield
    except Exception as error:  # they have no base of their own, and vary between its versions
        status = getattr(getattr(error, "response", None), "status_code", None)
        said = str(error).strip().splitlines()
        reason = said[0].rstrip(".") if said else type(error).__name__
        if status in (401, 403) or type(error).__name__ == "LocalTokenNotFoundError":
            raise InputError(
                f"{what}: the Hub refuses it ({reason}). Log in with `hf auth login`, or set HF_TOKEN to a token that "
                "may do this."
            ) from error
        if status is not None and 400 <= status < 500:
            raise InputError(f"{what}: {reason}. Check the name and the revision.") from error
        raise RunError(f"{what} failed: {reason}. Try again when the server can be reached.") from error


def _check_complete(folder: Path) -> None:
    """Refuses a folder that `save_pretrained` did not write, or whose tensors are not those of its description.

    Raises:
        InputError: a file is missing, of another kind, or damaged.
    """
    missing = [name for name in _FILES if not (folder / name).is_file()]
    if missing:
        raise InputError(
            f"{folder} is no folder of `save_pretrained`: it has no {', '.join(missing)}. "
            "`rolewise export RUN FOLDER` writes one."
        )
    read_pair(folder)


def _message(folder: Path) -> str:
    architecture = describe(folder)["architecture"]
    return f"{architecture.get('name') or architecture.get('class')}, rolewise {__version__}"
