"""Fetching the archives of data sets."""

import dataclasses
from pathlib import Path

import pytest
import tiny_cifar
from download_server import Server

from rolewise.data import fetch as fetching
from rolewise.data import load_data
from rolewise.data.cifar_files import CIFAR, URL
from rolewise.data.fetch import Bounds, Download, fetch
from rolewise.errors import InputError


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
@pytest.mark.parametrize("kind", ["binary", "python"])
def test_what_was_fetched_can_be_loaded(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kind: str
) -> None:
    spec, files = tiny_cifar.tiny(name)
    monkeypatch.setitem(CIFAR, name, spec)  # type: ignore[arg-type]
    form = spec.forms[("binary", "python").index(kind)]
    server.body = files[kind][form.archive]
    root = tmp_path / "new" / "folder"
    place = "set.tar.gz" if kind == "binary" else form.archive  # the name in the URL says which form it is
    path = fetch(name, root, url=server.url.replace("set.tar.gz", place) + "?x=1")
    assert path == root / form.archive
    assert len(load_data(name, root).test) == tiny_cifar.ROWS


def test_the_default_address_is_that_of_the_data_sets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[str, Path, str]] = []

    class Recorder(Download):
        def run(self) -> None:
            made.append((self.url, self.target, self.md5))

    monkeypatch.setattr(fetching, "Download", Recorder)
    for name, spec in CIFAR.items():
        archive = f"cifar-{name.removeprefix('cifar')}-binary.tar.gz"
        assert fetch(name, tmp_path) == tmp_path / archive
        assert made.pop() == (
            f"https://www.cs.toronto.edu/~kriz/{archive}",
            tmp_path / archive,
            spec.forms[0].archive_md5,
        )
    assert URL == "https://www.cs.toronto.edu/~kriz/"
    assert dataclasses.asdict(Bounds())["limit"] == 268_435_456


def test_names_that_cannot_be_fetched(tmp_path: Path) -> None:
    with pytest.raises(InputError, match='Unknown data set to fetch "folder". Known: "cifar10", "cifar100"'):
        fetch("folder", tmp_path)


def test_a_root_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match=r"`root`: .*/file/below cannot be made \(Not a directory\)"):
        fetch("cifar10", tmp_path / "file" / "below")
