"""Weights from elsewhere: state dicts and checkpoints, prefixes of wrappers, strict; nothing is executed."""

import hashlib
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from rolewise.errors import InputError
from rolewise.pretrained import load_weights, read_weights


def net(out=5):
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, out)
    )


def prefixed(model, prefix):
    return {prefix + name: tensor for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize(
    "form",
    [
        lambda model: model.state_dict(),
        lambda model: nn.DataParallel(model).state_dict(),
        lambda model: prefixed(model, "_orig_mod."),
        lambda model: prefixed(model, "module._orig_mod."),
        lambda model: {"epoch": 3, "state_dict": prefixed(model, "model."), "optimizer": {"lr": 0.1}},
        lambda model: {"model": model.state_dict(), "best": np.float64(0.7), "n": np.int64(3)},
        lambda model: {n: t for n, t in model.state_dict().items() if "num_batches" not in n},
        lambda model: {n: t.double() if t.is_floating_point() else t for n, t in model.state_dict().items()},
    ],
)
def test_every_usual_form_loads(tmp_path, form):
    torch.manual_seed(0)
    trained, mine = net(), net()
    path = tmp_path / "teacher.pth"
    torch.save(form(trained), path)
    record = load_weights(mine, path)
    assert record == {"file": "teacher.pth", "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    images = torch.randn(3, 3, 8, 8)
    assert torch.equal(mine.eval()(images), trained.eval()(images))
    assert mine[0].weight.dtype == torch.float32


def test_safetensors_load(tmp_path):
    trained, mine = net(), net()
    save_file(prefixed(trained, "module."), tmp_path / "teacher.safetensors")
    load_weights(mine, tmp_path / "teacher.safetensors")
    assert torch.equal(mine[0].weight, trained[0].weight)


class Whole:
    """What a pickled network would run."""

    def __reduce__(self):
        return (print, ("executed",))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (lambda: net(), "holds more than tensors, perhaps a whole network.*Save the weights alone"),
        (lambda: Whole(), "holds more than tensors"),
        (lambda: [1, 2], r"must be a state dict, or hold one under state_dict, .*; got a list"),
        (lambda: {"epoch": 3, "best": 0.5}, "got a dict with 'epoch', 'best'"),
    ],
)
def test_what_holds_no_weights(tmp_path, content, words, capsys):
    torch.save(content(), tmp_path / "x.pth")
    with pytest.raises(InputError, match=words):
        read_weights(tmp_path / "x.pth")
    assert "executed" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["x.pth", "x.safetensors"])
def test_files_that_cannot_be_read(tmp_path, name):
    with pytest.raises(InputError, match="There is no file"):
        read_weights(tmp_path / name)
    for content in (b"", b"no weights", pickle.dumps(3)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=name):
            read_weights(tmp_path / name)


def test_another_network_is_refused_with_the_first_differences(tmp_path):
    torch.save(net(7).state_dict(), tmp_path / "x.pth")
    mine = net()
    before = mine[4].weight.clone()
    words = (
        r"\(2 differences, 9 tensors\):\n  4.weight: \(7, 4\) in the file, \(5, 4\) in the network\n  4.bias"
    )
    with pytest.raises(InputError, match=words):
        load_weights(mine, tmp_path / "x.pth")
    assert torch.equal(mine[4].weight, before)
    torch.save({"0.weight": mine[0].weight, "extra": torch.zeros(1)}, tmp_path / "y.pth")
    with pytest.raises(InputError, match=r"0.bias: not in the file\n(.*\n)*  ... and 3 more"):
        load_weights(mine, tmp_path / "y.pth")
    broken = net()
    with torch.no_grad():
        broken[0].bias[0] = float("nan")
    torch.save(broken.state_dict(), tmp_path / "z.pth")
    with pytest.raises(InputError, match="not finite, in 0.bias"):
        load_weights(mine, tmp_path / "z.pth")
