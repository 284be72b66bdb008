"""How strong each loss is at its defaults: the norm of its weighted gradient against the task's, on real images.

A loss whose gradient is far smaller than the task's distils nothing, whatever its value says. The table of
`docs/losses.md` shows the ratios that are measured here; `pytest -s` prints them.
"""

import copy
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import rolewise as rw
from rolewise.data import Data
from rolewise.kd import LOSSES, Outputs
from rolewise.kd.base import collect, tap_names
from rolewise.seeds import torch_generator

DOCS = Path(__file__).resolve().parents[2] / "docs" / "losses.md"
ARGUMENTS = {"crd": {"negatives": 512}, "reviewkd": {"width": 64}}  # sizes alone, for a small network
BATCH = 64


@pytest.fixture(scope="module")
def networks() -> tuple[nn.Module, nn.Module, Data]:
    """A trained teacher, a 4-bit student on its way, and the digits that both learned from."""
    data = rw.load_data("digits")
    options = {"batch_size": 64, "device": "cpu", "precision": "fp32", "threads": 1, "flip": False, "crop": 2}
    teacher = rw.networks.build("cnn-tiny", num_classes=10, seed=1)
    rw.train(teacher, data, epochs=8, seed=1, **options)
    student = rw.quantize(rw.networks.build("cnn-tiny", num_classes=10, seed=2), 4, 4)
    rw.train(student, data, epochs=3, seed=2, lr=2e-3, **options)
    return teacher.eval(), student.train(), data


def outputs(model: nn.Module, images: Tensor, taps: tuple[str, ...], labels: Tensor) -> Outputs:
    found = collect(model, images, taps)
    return Outputs(found.logits, found.features, labels, torch.arange(len(labels)))


def norm(value: Tensor, parameters: list[Tensor]) -> float:
    gradients = torch.autograd.grad(value, parameters, allow_unused=True)
    return float(torch.stack([g.square().sum() for g in gradients if g is not None]).sum().sqrt())


def ratio(name: str, teacher: nn.Module, student: nn.Module, data: Data) -> float:
    """Norm of weight x gradient of the loss, over that of task weight x gradient of cross-entropy."""
    loss = LOSSES[name](**ARGUMENTS.get(name, {}))
    if not loss.prepared:
        loss.prepare(teacher, data.train, epochs=1, seed=0)
    student = copy.deepcopy(student)
    parameters = [p for p in student.parameters() if p.requires_grad]
    images = data.train.images[:BATCH].permute(0, 3, 1, 2).float() / 255
    images = (images - torch.tensor(data.train.mean)[:, None, None]) / torch.tensor(data.train.std)[
        :, None, None
    ]
    labels = data.train.labels[:BATCH]
    with torch.no_grad():
        fixed = outputs(teacher, images, tap_names(teacher, None, kind=loss.tap_kind), labels)
    found = outputs(student, images, tap_names(student, None, kind=loss.tap_kind), labels)
    loss.build(found.detach(), fixed, generator=torch_generator(0, "ratio"), images=len(data.train))
    task = norm(loss.task_weight * cross_entropy(found.logits, labels), parameters)
    found = outputs(student, images, tap_names(student, None, kind=loss.tap_kind), labels)
    return norm(loss.weight * loss(found, fixed), parameters) / task


def test_every_loss_reaches_the_student(networks: tuple[nn.Module, nn.Module, Data]) -> None:
    measured = {name: ratio(name, *networks) for name in LOSSES}
    documented = {
        name: float(value)
        for name, value in re.findall(
            r"^\| `([a-z-]+)` \|.*\| ([0-9.e+-]+) \|$", DOCS.read_text("utf-8"), re.MULTILINE
        )
    }
    print("\n" + "\n".join(f"{name:10} {value:.2g}" for name, value in measured.items()))
    assert documented.keys() == measured.keys()
    for name, value in measured.items():
        assert value > 0.005, f"{name} has {value:.1e} of the task's gradient: it distils nothing"
        assert 1 / 3 < value / documented[name] < 3, (name, value, documented[name])
