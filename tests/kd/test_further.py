"""What all further losses have in common: exactness, stability, no waiting for the device."""

import copy
from dataclasses import replace

import further_samples as samples
import pytest
import torch
from further_samples import CASES
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from rolewise.kd import LOSSES
from rolewise.kd.base import Outputs
from rolewise.trainer.recorded import GraphRecorder

NAMES = sorted(CASES)
FEATURES = [name for name in NAMES if LOSSES[name].needs_features]
PAPERS_SIX = {"soft", "dml", "rkd", "mhgd", "kd-svd", "ii-kd"}


def test_there_is_a_case_for_each() -> None:
    assert set(NAMES) == set(LOSSES) - PAPERS_SIX


@pytest.mark.parametrize("name", NAMES)
def test_value_and_gradient_follow_the_equation(name: str) -> None:
    samples.assert_follows(name, CASES[name])


@pytest.mark.parametrize("name", NAMES)
def test_gradient_is_the_derivative(name: str) -> None:
    case = CASES[name]
    loss = samples.made(name, case)
    student, teacher = samples.pair(case, n=3)
    if name == "crd":  # the first step sets the normalizer, every step changes the memory
        loss(student, teacher)
        loss.eval()

    def value(logits: Tensor, *features: Tensor) -> Tensor:
        return loss(replace(student, logits=logits, features=features), teacher)

    leaves = (student.logits, *student.features)
    assert torch.autograd.gradcheck(value, leaves, eps=1e-6, atol=1e-5, fast_mode=True)


def degenerate(outputs: Outputs, kind: str) -> Outputs:
    """Outputs with something that breaks careless formulas."""
    logits, features = outputs.logits.detach().clone(), [f.detach().clone() for f in outputs.features]
    match kind:
        case "all-zero maps":
            features = [torch.zeros_like(f) for f in features]
        case "one all-zero image":
            for f in features:
                f[0] = 0
        case "dead channels":
            for f in features:
                f[:, 0] = 0
        case "duplicated images":
            logits[1:], features = logits[0], [f[:1].expand_as(f).clone() for f in features]
        case "constant logits":
            logits[0] = 3.0
        case "large logits":
            logits = logits * 200
        case "small maps":
            features = [f * 1e-15 for f in features]
    return replace(outputs, logits=logits, features=tuple(features))


KINDS = (
    "all-zero maps",
    "one all-zero image",
    "dead channels",
    "duplicated images",
    "constant logits",
    "large logits",
    "small maps",
)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_gradients_stay_finite(name: str, kind: str) -> None:
    case = CASES[name]
    plain = samples.pair(case, n=2, dtype=torch.float32)
    for both in (False, True):
        loss = samples.made(name, case, dtype=torch.float32)
        student = degenerate(plain[0], kind)
        teacher = degenerate(plain[1], kind) if both else plain[1]
        for leaf in (student.logits, *student.features):
            leaf.requires_grad_(True)
        value = loss(student, teacher)
        value.backward()
        assert torch.isfinite(value)
        found = samples.gradients(loss, student)
        assert found
        for leaf, gradient in found.items():
            assert torch.isfinite(gradient).all(), (leaf, both)
            # A vector without direction takes no gradient, rather than one divided by a tiny guard.
            limit = 1e6 if kind != "small maps" else 1e20
            assert gradient.abs().max() < limit, (leaf, both)


# CRD's negatives depend on the place in the batch.
@pytest.mark.parametrize("name", [name for name in NAMES if name != "crd"])
def test_the_order_of_the_batch_does_not_matter(name: str) -> None:
    case = CASES[name]
    order = torch.tensor([2, 0, 3, 1])

    def shuffled(x: Outputs) -> Outputs:
        assert x.labels is not None
        features = tuple(f[order] for f in x.features)
        return Outputs(x.logits[order], features, x.labels[order], x.ids)

    student, teacher = samples.pair(case)
    value = samples.made(name, case)(student, teacher)
    again = samples.made(name, case)(shuffled(student), shuffled(teacher))
    torch.testing.assert_close(value, again, rtol=1e-12, atol=1e-14)


# CRD's memory must fill first (its own test).
@pytest.mark.parametrize("name", [name for name in NAMES if name != "crd"])
def test_learning_reduces_it(name: str) -> None:
    case = CASES[name]
    loss = samples.made(name, case)
    student, teacher = samples.pair(case)
    optimizer = torch.optim.Adam([student.logits, *student.features, *loss.parameters()], 0.1)
    values = []
    for _ in range(40):
        optimizer.zero_grad()
        value = loss(student, teacher)
        value.backward()
        optimizer.step()
        values.append(float(value.detach()))
    assert values[-1] < values[0] - 0.2 * abs(values[0]), values


class NoWaiting(TorchDispatchMode):
    """Refuses every operation whose result the host must wait for, or whose shape depends on data."""

    FORBIDDEN = (
        "_local_scalar_dense",
        "nonzero",
        "is_nonzero",
        "equal",
        "masked_select",
        "_unique",
        "unique",
    )

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        assert not name.startswith(self.FORBIDDEN), name
        # A boolean mask as index would be a nonzero in disguise.
        if name in ("index", "index_put", "index_put_"):
            assert all(i is None or i.dtype != torch.bool for i in args[1]), name
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", NAMES)
def test_the_host_never_waits(name: str) -> None:
    case = CASES[name]
    loss = samples.made(name, case)
    student, teacher = samples.pair(case)
    with NoWaiting():
        loss(student, teacher).backward()


def test_the_watch_for_waiting_sees_it() -> None:
    with NoWaiting():
        for wait in (lambda x: x.item(), lambda x: bool(x > 0), lambda x: x.nonzero()):
            with pytest.raises(AssertionError):
                wait(torch.ones(()))
        with pytest.raises(AssertionError):
            torch.ones(3)[torch.ones(3) > 0]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_they_can_be_captured_in_a_graph() -> None:
    for name in NAMES:
        case = CASES[name]
        loss = samples.made(name, case, dtype=torch.float32).cuda()
        eager = copy.deepcopy(loss)
        student, teacher = (
            Outputs(
                x.logits.detach().cuda().requires_grad_(),
                tuple(f.detach().cuda().requires_grad_() for f in x.features),
                x.labels.cuda(),
                x.ids.cuda(),
            )
            for x in samples.pair(case, dtype=torch.float32)
        )
        recorder, found = GraphRecorder(), []
        warm = copy.deepcopy(loss)  # a loss may have a state, which the recorded one begins with
        for _ in range(3):
            recorder.warm_up(lambda warm=warm, pair=(student, teacher): warm(*pair).backward())

        def step(loss=loss, pair=(student, teacher), found=found) -> None:
            value = loss(*pair)
            value.backward()
            found[:] = [value.detach()]

        replay = recorder.record(step)
        for _ in range(3):
            replay()
            torch.testing.assert_close(found[0], eager(student, teacher).detach(), msg=name)
