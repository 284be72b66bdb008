"""Weights from elsewhere: state dicts and checkpoints, prefixes of wrappers, strict; nothing is executed."""

import hashlib

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from rolewise.errors import InputError
from rolewise.pretrained import load_weights


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


def test_nothing_is_executed_or_changed(tmp_path, capsys):
    mine = net()
    before = mine[0].weight.clone()
    for content in (Whole(), net(), {"state_dict": net(7).state_dict()}):
        torch.save(content, tmp_path / "x.pth")
        with pytest.raises(
            InputError, match=r"x.pth|4.weight: \(7, 4\) in the file, \(5, 4\) in the network"
        ):
            load_weights(mine, tmp_path / "x.pth")
    with pytest.raises(InputError, match="`weights`: ~nosuchuser"):
        load_weights(mine, "~nosuchuser/x.pth")
    assert "executed" not in capsys.readouterr().out
    assert torch.equal(mine[0].weight, before)
