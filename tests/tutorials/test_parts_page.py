"""The page on single parts in an own loop: all blocks run, and the clipped step is that of `Distill`."""

import torch
from blocks import run_tutorial
from torch.nn import functional as F

import rolewise as rw
from rolewise.objective import Placement
from rolewise.trainer import torch_threads


def test_parts_in_your_own_loop(capsys):
    torch.manual_seed(0)
    changes = {"images, labels = data.train.images, data.train.labels": (
        "images, labels = data.train.images[:384], data.train.labels[:384]"
    )}  # fmt: skip
    with torch_threads(1):
        printed, names = run_tutorial("parts-in-your-own-loop", changes, lambda: capsys.readouterr().out)
    assert printed == []
    assert "in float" in capsys.readouterr().out
    assert rw.quant.quantization(names["student"])["weight_bits"] == 4
    with torch_threads(1):
        _check_the_clip(names)


def _check_the_clip(names):
    """The page's last gradients against those of `Distill` on the same batch."""
    torch.manual_seed(1)
    teacher, student = names["Net"]().eval(), names["Net"]()
    ids = torch.arange(16)
    batch, target = names["normalized"](names["images"][:16]), names["labels"][:16]
    task = rw.Distill(teacher, names["svd"], weight=1.0)
    task.bind(student, rw.load_data("digits").train, Placement(torch.device("cpu")), seed=0)
    task.set_epoch(1, 0)
    task.backward(student.train(), batch, target, ids)
    expected = [parameter.grad.clone() for parameter in student.parameters()]
    parameters = list(student.parameters())
    seen = names["outputs"](student, batch, target, ids)
    with torch.no_grad():
        taught = names["outputs"](teacher, batch, target, ids)
    own = torch.autograd.grad(F.cross_entropy(seen.logits, target), parameters, retain_graph=True)
    kd = torch.autograd.grad(names["svd"](seen, taught), parameters, allow_unused=True)
    found, dropped = names["clip_and_add"](
        own, kd, weight=torch.tensor(1.0), sigmoid=torch.sigmoid(torch.tensor(1.0))
    )
    assert float(dropped) == 0
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
