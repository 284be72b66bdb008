"""Folders to and from the Hub, against a server on this machine."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hub_server import TOKEN, Hub

from rolewise.cli import main
from rolewise.errors import InputError, MissingExtraError, RunError
from rolewise.networks import build
from rolewise.pretrained import (
    NetworkInfo,
    Preprocessing,
    from_pretrained,
    load_network,
    pull_from_hub,
    push_to_hub,
    save_network,
    save_pretrained,
)
from rolewise.quant import quantize

NAMES = ("README.md", "config.json", "model.safetensors")
INFO = NetworkInfo(Preprocessing((0.5,) * 3, (0.25,) * 3, (32, 32)), classes=tuple("abcdefghij"))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    from huggingface_hub import constants

    server = Hub()
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    yield server
    server.shutdown()
    server.server_close()
    assert server.unknown == []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_pretrained(quantize(build("cnn-tiny"), 2, 2), tmp_path / "folder", info=INFO, packed=True)


def test_there_and_back(hub: Hub, folder: Path, tmp_path: Path) -> None:
    (folder / "notes.txt").write_text("not to be sent")
    address = push_to_hub(folder, "ada/student-2bit", private=True)
    sha, files = hub.files("ada/student-2bit")  # type: ignore[misc]
    assert address == f"{hub.address}/ada/student-2bit/commit/{sha}"
    assert set(files) == {".gitattributes", *NAMES}
    assert all(files[name] == (folder / name).read_bytes() for name in NAMES)
    assert hub.private == {"ada/student-2bit"}
    assert hub.messages[0].startswith("cnn-tiny, rolewise ")

    found = pull_from_hub("ada/student-2bit", tmp_path / "deep" / "back")
    assert sorted(file.name for file in found.iterdir()) == sorted(NAMES)
    assert all((found / name).read_bytes() == (folder / name).read_bytes() for name in NAMES)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = load_network(folder)(images)
        assert torch.equal(load_network(found)(images), expected)
        assert torch.equal(from_pretrained("ada/student-2bit")(images), expected)


def test_a_second_push_is_a_second_commit(hub: Hub, folder: Path, tmp_path: Path) -> None:
    push_to_hub(folder, "ada/net")
    first = hub.files("ada/net")[0]  # type: ignore[index]
    other = save_pretrained(build("cnn-tiny", seed=5), tmp_path / "other", info=INFO)
    push_to_hub(other, "ada/net", message="another")
    assert hub.messages[1] == "another"
    target = tmp_path / "back"
    for revision, sent in ((None, other), (first, folder), (None, other)):
        pull_from_hub("ada/net", target, revision=revision)
        assert all((target / name).read_bytes() == (sent / name).read_bytes() for name in NAMES)


def test_the_commands(hub: Hub, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = save_network(
        quantize(build("cnn-tiny"), 4, 4), tmp_path / "student", info=INFO, extra={"data": "digits"}
    )
    assert main(["push", str(file), "ada/net", "--packed"]) == 0
    assert capsys.readouterr().out == f"{hub.address}/ada/net/commit/{hub.files('ada/net')[0]}\n"  # type: ignore[index]
    assert main(["pull", "ada/net", str(tmp_path / "back")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'back'}\n"
    mine, theirs = load_network(file).state_dict(), load_network(tmp_path / "back").state_dict()
    assert torch.equal(mine["conv1.weight"], theirs["conv1.weight"])
    assert "| Data | digits |" in (tmp_path / "back" / "README.md").read_text()
    assert main(["push", str(tmp_path / "absent"), "ada/net"]) == 2
    assert "There is no file or folder" in capsys.readouterr().err
    assert main(["push", str(file), "net"]) == 2
    assert "`repository` must be owner/name, such as ada/student-2bit, got 'net'." in capsys.readouterr().err
    assert main(["pull", "ada/other", str(tmp_path / "other")]) == 2
    assert "Check the name and the revision" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_what_is_refused_before_anything_is_sent(hub: Hub, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"is no folder of `save_pretrained`: it has no model\.safetensors, config"
    ):
        push_to_hub(tmp_path, "ada/net")
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(data)
    with pytest.raises(InputError, match="its SHA-256 differs"):
        push_to_hub(folder, "ada/net")
    assert hub.repositories == {}


def test_a_damaged_or_foreign_repository_leaves_nothing(hub: Hub, folder: Path, tmp_path: Path) -> None:
    files = {name: (folder / name).read_bytes() for name in NAMES}
    hub.commit("ada/damaged", {**files, "model.safetensors": files["model.safetensors"][:-1] + b"?"})
    hub.commit("ada/foreign", {"README.md": b"# another", "config.json": b"{}"})
    with pytest.raises(InputError, match="its SHA-256 differs"):
        pull_from_hub("ada/damaged", tmp_path / "back")
    with pytest.raises(InputError, match=r"it has no model\.safetensors"):
        pull_from_hub("ada/foreign", tmp_path / "back")
    assert not (tmp_path / "back").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "README.md").write_text("my own")
    with pytest.raises(InputError, match=r"README\.md is there and was not written by an earlier export"):
        pull_from_hub("ada/foreign", tmp_path / "mine")


def test_rights_and_servers(hub: Hub, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_another")
    with pytest.raises(
        InputError, match=r"the Hub refuses it .*Log in with `hf auth login`, or set HF_TOKEN"
    ):
        push_to_hub(folder, "ada/net")
    hub.commit("ada/net", {})
    with pytest.raises(InputError, match="Check the name and the revision"):
        pull_from_hub("ada/net", tmp_path / "back", revision="0" * 40)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # the port of "discard": nobody listens
    with pytest.raises(RunError, match="Sending .* failed: "):
        push_to_hub(folder, "ada/net")


def test_without_the_package(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    words = r"needs huggingface_hub, which is not installed: pip install .*\[hub\]"
    with pytest.raises(MissingExtraError, match=words):
        push_to_hub(folder, "ada/net")
    with pytest.raises(MissingExtraError, match=words):
        pull_from_hub("ada/net", tmp_path / "back")
    with pytest.raises(MissingExtraError, match=words):
        from_pretrained("ada/net")
