"""Folders in the Hub's layout."""

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml
from torch import nn

import rolewise
from rolewise.errors import InputError, MissingExtraError
from rolewise.networks import build
from rolewise.pretrained import describe, from_pretrained, load_network, save_network, save_pretrained
from rolewise.quant import quantize

X = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def student() -> nn.Module:
    return quantize(build("cnn-tiny"), 2, 4, layers={"layer3": (8, 4)}).eval()


@pytest.mark.parametrize("packed", [False, True])
def test_round_trip(tmp_path: Path, packed: bool):
    model, folder = student(), tmp_path / "new" / "folder"
    assert save_pretrained(model, folder, packed=packed, extra={"data": "digits"}) == folder
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    with torch.no_grad():
        for found in (
            from_pretrained(folder),
            load_network(folder),
            load_network(folder / "model.safetensors"),
        ):
            assert not found.training
            assert torch.equal(found(X), model(X))
    assert describe(folder)["data"] == "digits"
    save_pretrained(build("cnn-tiny", seed=1), folder)  # again, over it
    assert describe(folder)["quantization"] is None


def test_the_config_is_the_content_of_the_pairs_json(tmp_path: Path):
    save_pretrained(student(), tmp_path / "hub", extra={"data": "digits"})
    pair = save_network(student(), tmp_path / "student", extra={"data": "digits"})
    assert (tmp_path / "hub" / "config.json").read_bytes() == pair.with_suffix(".json").read_bytes()
    assert (tmp_path / "hub" / "model.safetensors").read_bytes() == pair.read_bytes()


def test_the_card(tmp_path: Path):
    extra = {"data": "digits", "accuracy": 0.98765, "classes": [*"0123456789"], "teacher": "resnet8-small"}
    folder = save_pretrained(student(), tmp_path, extra=extra)
    _, header, text = (folder / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(header) == {
        "library_name": "rolewise",
        "pipeline_tag": "image-classification",
        "tags": ["rolewise", "quantized"],
    }
    for line in (
        "# cnn-tiny, low-bit",
        "| Architecture | cnn-tiny, 10 classes |",
        f"| Parameters | {27 * 8 + 1152 + 3584 + 14336 + 2 * 168 + 330:,} |",
        f"| File | {(folder / 'model.safetensors').stat().st_size:,} bytes |",
        "| Quantization | dorefa, weights 2 bits (5 layers), 8 bits (3 layers), activations 4 bits (6 act points) |",
        "| Data | digits |",
        "| Distilled from | resnet8-small |",
        "| Test accuracy | 98.77 % |",
        "| Classes | 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 |",
        f"Written by rolewise {rolewise.__version__}.",
    ):
        assert line in text
    assert 'rw.from_pretrained("FOLDER")' in text


def test_the_card_of_a_float_network_with_many_classes(tmp_path: Path):
    extra = {"classes": [f"c{i}" for i in range(100)], "accuracy": float("nan")}
    text = (
        save_pretrained(build("cnn-tiny", num_classes=100), tmp_path, extra=extra) / "README.md"
    ).read_text()
    assert "c19, ... (100) |" in text
    assert "none (float32)" in text
    assert "Test accuracy" not in text
    assert "- quantized" not in text


def test_a_users_network(tmp_path: Path):
    model = nn.Sequential(nn.Flatten(), nn.Linear(3072, 3))
    text = (save_pretrained(model, tmp_path) / "README.md").read_text()
    assert "# Sequential" in text
    assert "model=..." in text
    found = from_pretrained(tmp_path, model=nn.Sequential(nn.Flatten(), nn.Linear(3072, 3)))
    assert torch.equal(found(X), model(X))


def test_a_folder_that_is_not_there():
    with pytest.raises(
        InputError, match="must be a folder or a Hub repository owner/name; there is no folder /no/such"
    ):
        from_pretrained("/no/such/folder")


def test_the_hub_is_asked_for_two_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A stand-in for the Hub's own package; no network is used."""
    folder = save_pretrained(student(), tmp_path)
    asked: dict[str, Any] = {}

    def snapshot_download(name: str, **arguments: Any) -> str:
        asked.update(arguments, name=name)
        return str(folder)

    package = ModuleType("huggingface_hub")
    package.snapshot_download = snapshot_download
    monkeypatch.setitem(sys.modules, "huggingface_hub", package)
    found = from_pretrained("someone/net", revision="v1")
    assert asked == {
        "name": "someone/net",
        "revision": "v1",
        "allow_patterns": ["model.safetensors", "config.json"],
        "endpoint": None,
        "local_dir": None,
    }
    assert torch.equal(found(X), student()(X))
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"needs huggingface_hub, which is not installed.*\[hub\]"):
        from_pretrained("someone/net")


def test_a_damaged_config(tmp_path: Path):
    save_pretrained(student(), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["quantization"]["weight_bits"] = 4
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="config.json was changed after model.safetensors was written"):
        from_pretrained(tmp_path)
