"""The whole step can be recorded once and repeated: nothing waits for the device, no shape follows from the data.

A CUDA graph cannot be made on a CPU; `tape.Tape` stands in for it, and the meta device for one whose data no host sees.
"""

import copy
from contextlib import nullcontext

import pytest
import torch
from small_training import network, split
from tape import Tape, tensors_of

import rolewise as rw
from rolewise import kd
from rolewise.objective import CrossEntropy, Distill, Placement
from rolewise.trainer import Batch, Trainer, student_settings, torch_threads
from rolewise.trainer.optimizer import set_lr

OBJECTIVES = ("cross-entropy", "soft", "rkd", "kd-svd", "mhgd", "ii-kd")
EVERY = ("cross-entropy", *kd.LOSSES)
BATCH = 8


@pytest.fixture(autouse=True)
def _one_thread():
    with torch_threads(1):
        yield


def objective(name, method="products"):
    if name == "cross-entropy":
        return CrossEntropy()
    arguments = {
        "kd-svd": {"method": method},
        "mhgd": {"method": method, "trained": False},
        "ii-kd": {"method": method, "trained": False},
    }
    task = Distill(network(1).eval(), kd.LOSSES[name](**arguments.get(name, {})), prepare_epochs=1)
    task.prepare(split(16), seed=0)
    return task


def trainer(name, method="products", **changes):
    """A 4-bit student that has taken one step, as before every capture: the optimizer's moments are there."""
    chosen = student_settings(10, batch_size=BATCH, **{"precision": "fp32", **changes})
    found = Trainer(
        rw.quantize(network(0), 4, 4), objective(name, method), split(), chosen, seed=0, role="student"
    )
    found.model.train()
    at_epoch(found, 0)
    found.train_step(batches(found)[0])
    return found


def at_epoch(found, epoch):
    set_lr(found.optimizer, found.settings.lr_at(epoch))
    found.objective.set_epoch(epoch, found.settings.passed(epoch))


def batches(found):
    return list(found.feeder.batches(0, None))


def recorded(found, batch):
    """The step as it is recorded; it is also taken."""
    with Tape() as tape:
        found.train_step(batch)
    return tape


def filled(batch, value):
    return Batch(torch.full_like(batch.images, value), batch.labels, batch.ids)


@pytest.mark.parametrize(("name", "precision"), [*((name, "fp32") for name in EVERY), ("ii-kd", "bf16")])
def test_nothing_waits_and_no_shape_follows_from_the_data(name, precision):
    found = trainer(name, precision=precision)
    first, *_, last = batches(found)
    tapes = [
        recorded(found, batch) for batch in (first, last, filled(first, 0.0), filled(first, float("nan")))
    ]
    assert len(tapes[0].names) > 100
    for tape in tapes:
        assert not tape.waits()
        assert tape.trace == tapes[0].trace


@pytest.mark.parametrize("name", ["kd-svd", "mhgd", "ii-kd"])
def test_the_decomposition_for_cpus_waits(name):
    """It looks at the data to save work; this also shows that the test above can fail."""
    found = trainer(name, method="exact")
    tape = recorded(found, batches(found)[1])
    assert {"nonzero", "_linalg_eigh"} & tape.waits()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_repeating_the_recorded_step_is_training(name):
    """New batches in the recorded one's place, another epoch's numbers in the device's scalars: to the bit as eager."""
    captured, eager = trainer(name), trainer(name)
    _, first, *rest = batches(eager)
    static = Batch(first.images.clone(), first.labels.clone(), first.ids.clone())
    tape = recorded(captured, static)
    eager.train_step(first)
    for epoch, batch in enumerate(rest, start=3):  # over two milestones
        for one in (captured, eager):
            at_epoch(one, epoch)
        for old, new in (
            (static.images, batch.images),
            (static.labels, batch.labels),
            (static.ids, batch.ids),
        ):
            old.copy_(new)
        tape.replay()
        eager.train_step(batch)
    ours, expected = captured.state().tensors, eager.state().tensors
    assert ours.keys() == expected.keys()
    for key, tensor in expected.items():
        assert torch.equal(ours[key], tensor), key
    assert expected["sums"][0] > 0


@pytest.mark.parametrize("scalar", ["lr", "lambda", "sigmoid"])
def test_the_recorded_step_reads_each_scalar_from_its_tensor(scalar):
    found = trainer("ii-kd")
    tape = recorded(found, batches(found)[1])
    tensors = {
        "lr": [group["lr"] for group in found.optimizer.param_groups],
        "lambda": [found.objective._lambda],
        "sigmoid": [found.objective._sigmoid],
    }[scalar]
    start, before = found.state(), copy.deepcopy(found.state().tensors)
    results = []
    for factor in (1.0, 0.25):
        found.load_state(start)
        kept = [tensor.clone() for tensor in tensors]
        for tensor in tensors:
            tensor.mul_(factor)
        tape.replay()
        for tensor, value in zip(tensors, kept, strict=True):
            tensor.copy_(value)
        results.append(found.state().tensors["model.layer2.0.conv1.weight"])
    steps = [result - before["model.layer2.0.conv1.weight"] for result in results]
    assert all(step.abs().max() > 0 for step in steps)
    if scalar == "lr":
        torch.testing.assert_close(steps[1], 0.25 * steps[0], rtol=1e-2, atol=1e-7)
    else:
        assert not torch.equal(*steps)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_both_networks_and_both_backward_passes_without_any_data(name, monkeypatch):
    """The meta device has shapes and no values. On a device that is no CPU the losses choose what can be captured."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # there is none for this device
    device = torch.device("meta")
    model, task = rw.quantize(network(0), 4, 4).to(device).train(), objective(name, method=None)
    if isinstance(task, Distill):
        task.teacher.to(device)
    task.bind(model, split(), Placement(device), seed=0)
    task.set_epoch(1, 0)
    images = torch.empty(BATCH, 3, 32, 32, device=device)
    labels = torch.empty(BATCH, dtype=torch.int64, device=device)
    with Tape() as tape:
        metrics = task.backward(model, images, labels, labels)
    assert metrics.shape == (len(task.metrics),)
    assert all(parameter.grad is not None for parameter in model.parameters())
    for function, args, kwargs, results in tape.entries:
        places = {tensor.device.type for tensor in (*tensors_of((args, kwargs)), *results)}
        assert places <= {"meta"}, function
