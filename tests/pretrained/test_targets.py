"""What an export may write over."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from rolewise.errors import InputError
from rolewise.networks import build
from rolewise.pretrained import export, load_network, onnx_network, save_network, save_pretrained
from rolewise.quant import quantize

NAMES = ("net.safetensors", "net.onnx", "net.xml")


@pytest.mark.parametrize("name", NAMES)
def test_its_own_earlier_output(tmp_path: Path, name: str):
    first = export(quantize(build("cnn-tiny"), 2, 2), tmp_path / name).read_bytes()
    again = export(build("cnn-tiny"), tmp_path / name).read_bytes()
    assert first != again
    path = export(quantize(build("cnn-tiny"), 2, 2), tmp_path / name)
    assert path.read_bytes() == first
    path.write_bytes(first[:-300] + b"x" + first[-299:])  # damaged, and still its own
    if name != "net.safetensors":
        export(build("cnn-tiny"), path)


@pytest.mark.parametrize("name", [*NAMES, "net.json", "net.bin"])
def test_nothing_of_others(tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(b"another program's file, longer than a short one")
    target = {"net.json": "net.safetensors", "net.bin": "net.xml"}.get(name, name)
    with pytest.raises(InputError, match=f"`path`: .*{name} is there and is not an earlier export"):
        export(build("cnn-tiny"), tmp_path / target)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes().startswith(b"another program's")


def test_no_trained_network(tmp_path: Path):
    path = save_network(quantize(build("cnn-tiny"), 2, 2), tmp_path / "student")
    before = path.read_bytes()
    with pytest.raises(InputError, match="student.safetensors is there and is not an earlier export"):
        export(quantize(build("cnn-tiny"), 2, 2), path)
    assert path.read_bytes() == before


def test_a_hub_folder(tmp_path: Path):
    folder = save_pretrained(build("cnn-tiny"), tmp_path / "hub")
    save_pretrained(build("cnn-tiny", seed=1), folder)
    for name in ("README.md", "config.json"):
        other = tmp_path / f"of-{name}"
        other.mkdir()
        (other / name).write_text("{}" if name.endswith("json") else "# My project")
        with pytest.raises(InputError, match=f"{name} is there and was not written by an earlier export"):
            save_pretrained(build("cnn-tiny"), other)
        assert [path.name for path in other.iterdir()] == [name]
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="`folder`: .*file is a file"):
        save_pretrained(build("cnn-tiny"), tmp_path / "file")


def test_missing_folders(tmp_path: Path):
    for name in NAMES:
        with pytest.raises(InputError, match="`path`: there is no folder .*sub/dir. Make it first"):
            export(build("cnn-tiny"), tmp_path / "sub" / "dir" / name)
    (tmp_path / "net.onnx").mkdir()
    with pytest.raises(InputError, match="`path`: .*net.onnx is a folder"):
        export(build("cnn-tiny"), tmp_path / "net.onnx")


@pytest.mark.parametrize("size", [(0, 32), (32,), "32x32", (1.5, 2), None.__class__])
def test_impossible_sizes(tmp_path: Path, size: object):
    with pytest.raises(InputError, match="`image_size` must be height and width"):
        export(build("cnn-tiny"), tmp_path / "net.onnx", image_size=size)  # type: ignore[arg-type]


class Twice(nn.Module):
    """One layer under two names, and two layers that share a weight."""

    def __init__(self) -> None:
        super().__init__()
        conv, act = nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()
        self.stem, self.body = nn.Conv2d(3, 8, 3), nn.Sequential(conv, act, conv, act)
        self.one, self.two = nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3)
        self.two.weight = self.one.weight
        self.fc = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.two(self.one(self.body(self.stem(x)))).mean((2, 3)))


def test_modules_registered_twice_and_tied_weights(tmp_path: Path):
    low = quantize(Twice(), 4, 32).eval()
    images = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = low(images)
        again = load_network(export(low, tmp_path / "net.safetensors"), model=Twice())
        assert torch.equal(again(images), expected)
        found = onnx_network(export(low, tmp_path / "net.onnx", image_size=(16, 16)), threads=1)(images)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(low(images), expected)  # and the network is as it was


def test_tied_weights_of_different_bits_are_not_mixed_up(tmp_path: Path):
    low = quantize(Twice(), 4, 32, act_points=[], layers={"two": (2, 32)}).eval()
    path = export(low, tmp_path / "net.safetensors")
    with pytest.raises(InputError, match="different weights where the network shares one"):
        load_network(path, model=Twice())
    untied = Twice()
    untied.two.weight = nn.Parameter(untied.one.weight.detach().clone())
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(load_network(path, model=untied)(images), low(images))


def test_half_and_compiled_networks(tmp_path: Path):
    half = build("cnn-tiny", num_classes=4).half()
    loaded = load_network(export(half, tmp_path / "half.safetensors"))
    assert loaded.conv1.weight.dtype == torch.float16
    low = load_network(export(quantize(half, 4, 4), tmp_path / "low.safetensors"))
    assert low.conv1.weight.dtype == torch.float32
    plain = build("cnn-tiny", num_classes=4).eval()
    images = torch.randn(2, 3, 32, 32)
    for wrapped in (torch.compile(plain, backend="eager"), nn.DataParallel(plain)):
        with torch.no_grad():
            path = export(wrapped, tmp_path / "wrapped.safetensors")
            assert torch.equal(load_network(path)(images), plain(images))
        assert json.loads(path.with_suffix(".json").read_text())["architecture"]["name"] == "cnn-tiny"


def test_weights_that_a_hook_recomputes(tmp_path: Path):
    from torch.nn.utils import prune

    low = quantize(build("cnn-tiny"), 4, 4)
    prune.l1_unstructured(low.get_submodule("layer1.0.conv1"), "weight", amount=0.5)
    for name in NAMES:
        with pytest.raises(InputError, match='"layer1.0.conv1" is recomputed in each forward pass'):
            export(low, tmp_path / name)
