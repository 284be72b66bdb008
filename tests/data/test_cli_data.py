"""`rolewise data`, in this process, on its exact output."""

import hashlib
from pathlib import Path

import pytest
import tiny_cifar
from download_server import Server
from typer.testing import CliRunner, Result

from rolewise.cli.data import app
from rolewise.data.cifar_files import CIFAR
from rolewise.errors import InputError, RunError


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_check_of_digits() -> None:
    result = run("check", "digits")
    assert result.exit_code == 0
    assert result.stdout == (
        "digits: part of the package\n"
        "train 1,437 images of 32 x 32, 10 classes of 138 to 147\n"
        "test  360 images of 32 x 32, 10 classes of 36\n"
        "mean  0.30509972, 0.30509972, 0.30509972\n"
        "std   0.32353497, 0.32353497, 0.32353497\n"
        "fingerprint a17dabba736b6d0c4b938bbeaf9f20951307a0671263169f0ec3118c75f5be53\n"
        "all files are readable\n"
    )
    assert result.stderr == ""


def test_check_of_a_folder_lists_what_it_leaves_out(root: Path) -> None:
    (root / "train" / "dog" / "a.png").write_text("no image")
    (root / "test" / "dog" / "b.png").write_text("")
    refused = run("check", "folder", "--data-root", root)
    assert isinstance(refused.exception, InputError)
    assert "1 of 7 files cannot be used: dog/a.png (no image of a known format)" in str(refused.exception)
    result = run("check", "folder", "--data-root", root, "--skip-bad", "--size", 20)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[:3] == [
        f"folder: images in {root}",
        "train 6 images of 20 x 20, 2 classes of 3",
        "test  2 images of 20 x 20, 2 classes of 1",
    ]
    assert lines[-3:] == [
        "left out: train/dog/a.png (no image of a known format)",
        "left out: test/dog/b.png (empty)",
        "2 files are left out",
    ]
    assert result.stderr == ""


def test_check_reads_the_test_part_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, files = tiny_cifar.tiny("cifar10")
    monkeypatch.setitem(CIFAR, "cifar10", spec)  # type: ignore[arg-type]
    folder = tiny_cifar.write_folder(tmp_path, spec.forms[0], files["binary"])
    result = run("check", "cifar10", "--data-root", tmp_path)
    assert result.stdout.startswith(
        f"cifar10: CIFAR-10, binary form, {folder}\ntrain 60 images of 32 x 32, 10 "
    )
    (folder / "test_batch.bin").write_bytes(b"")
    damaged = run("check", "cifar10", "--data-root", tmp_path)
    assert isinstance(damaged.exception, InputError)
    assert str(damaged.exception).startswith(
        f"{folder / 'test_batch.bin'}: is damaged or not the published file"
    )


def test_fetch_shows_progress_and_prints_the_path(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, files = tiny_cifar.tiny("cifar10")
    monkeypatch.setitem(CIFAR, "cifar10", spec)  # type: ignore[arg-type]
    server.body = files["binary"]["cifar-10-binary.tar.gz"]
    result = run("fetch", "cifar10", "--data-root", tmp_path, "--url", server.url)
    path = tmp_path / "cifar-10-binary.tar.gz"
    assert result.exit_code == 0
    assert result.stdout == f"{path}\n"
    assert result.stderr.splitlines()[-1] == "0.2 of 0.2 MiB (100 %)"
    assert hashlib.md5(path.read_bytes()).hexdigest() == spec.forms[0].archive_md5
    again = run("fetch", "cifar10", "--data-root", tmp_path, "--url", server.url, "--quiet")
    assert (again.stdout, again.stderr) == (f"{path}\n", "")


def test_fetch_that_fails(server: Server, tmp_path: Path) -> None:
    server.statuses = [404]
    result = run("fetch", "cifar10", "--data-root", tmp_path, "--url", server.url)
    assert isinstance(result.exception, RunError)
    assert "the server answers 404 (Not Found). Try another --url." in str(result.exception)
    assert result.stdout == ""


def test_fetch_of_what_needs_none() -> None:
    result = run("fetch", "digits")
    assert (result.exit_code, result.stdout) == (0, "digits is a part of the package: nothing to fetch\n")


def test_fetch_needs_a_place() -> None:
    result = run("fetch", "cifar10")
    assert isinstance(result.exception, InputError)
    assert str(result.exception) == "`--data-root` is missing: give the folder that shall hold the archive."
