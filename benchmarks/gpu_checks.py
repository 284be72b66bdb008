"""Whether a step on the device is right, before anyone looks at its time: against float32, the CPU, eager."""

from collections.abc import Iterator
from contextlib import contextmanager

import gpu_imports  # noqa: F401 - first: what follows may need its stand-in
import torch
from gpu_graph import GraphedStep
from gpu_parts import Figures, Size, batches, trainer, wait
from torch.nn import functional as F

from rolewise.trainer import Trainer

CHECKED = ("plain", "4-bit", "4-bit + soft", "4-bit + ii-kd")
# Relative difference of a loss from its reference, and the least cosine of the two gradients. A low-bit network's
# gradient has no bound against bf16: at random weights a difference in the last bits moves activations to other levels,
# layer after layer. On a CPU ResNet18's was 0.96 in float, 0.00 in 4 bits, its losses within 0.2 %.
BOUNDS = {"device": (1e-2, 0.99), "bf16": (2e-2, 0.9), "compiled": (2e-2, 0.9)}
TRAINED = 0.1  # of the mean loss over the steps of a short training
GRAPH = 1e-5  # of the state, or ten times what eager differs from itself


@contextmanager
def _no_tf32() -> Iterator[None]:
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False  # PyTorch's default for convolutions has 10 bits of mantissa
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def _gradient(one: Trainer) -> tuple[float, torch.Tensor]:
    batch = batches(one, 1)[0]
    loss = one.objective.backward(one.model, batch.images, batch.labels, batch.ids)[0]
    held = [p.grad.float().flatten().cpu() for p in one.model.parameters() if p.grad is not None]
    return float(loss), torch.cat(held).double()


def check_gradient(size: Size, what: str) -> Figures:
    """One batch's loss and gradient against float32: of the CPU (`device`), else of the same device."""
    changed: Figures = {"bf16": {"precision": "bf16"}, "compiled": {"compile": True}}.get(what, {})
    limit, least = BOUNDS[what]
    found: Figures = {"bounds": {"loss": limit, "cosine": least}}
    for kind in CHECKED:
        with _no_tf32():
            reference = {"precision": "fp32", **({"device": "cpu"} if what == "device" else {})}
            expected, gradient = _gradient(trainer(size, kind, **reference))
            loss, other = _gradient(trainer(size, kind, **{"precision": "fp32", **changed}))
        cosine = float(F.cosine_similarity(gradient, other, dim=0))
        apart = abs(loss - expected) / abs(expected)
        bounded = kind == "plain" or what == "device"
        ok = apart <= limit and (cosine >= least or not bounded)
        found[kind] = {"loss": apart, "cosine": cosine, "cosine is bounded": bounded, "ok": ok}
    return found | {"ok": all(found[kind]["ok"] for kind in CHECKED)}


def check_training(size: Size) -> Figures:
    """The mean loss of a short training in bf16 against float32."""
    found: Figures = {"bounds": {"loss": TRAINED}}
    for kind in CHECKED:
        losses = []
        for precision in ("fp32", "bf16"):
            one = trainer(size, kind, precision=precision)
            for batch in batches(one, size.steps):
                one.train_step(batch)
            losses.append(float(one.state().tensors["sums"][0]) / size.steps)
        apart = abs(losses[1] - losses[0]) / abs(losses[0])
        found[kind] = {"fp32": losses[0], "bf16": losses[1], "apart": apart, "ok": apart <= TRAINED}
    return found | {"ok": all(found[kind]["ok"] for kind in CHECKED)}


def _apart(one: Trainer, other: Trainer) -> float:
    """The largest relative difference of a tensor of two states."""
    a, b = one.state().tensors, other.state().tensors
    return max(float((a[k].double() - b[k]).norm() / b[k].double().norm().clamp_min(1e-12)) for k in b)


def check_graph(size: Size) -> Figures:
    """Eight steps replayed against eight eager ones; how far eager is from itself says what to expect."""
    found: Figures = {"bounds": {"state": f"{GRAPH:g}, or ten times eager against itself"}}
    for kind in CHECKED:
        eager, again, graphed = (trainer(size, kind) for _ in range(3))
        every = batches(eager, 8)
        for one in (eager, again):
            for batch in every:
                one.train_step(batch)
        step = GraphedStep(graphed, every[0])
        for batch in every:
            step(batch)
        step.wait()
        wait(size.device)
        noise, apart = _apart(again, eager), _apart(graphed, eager)
        found[kind] = {"eager": noise, "graph": apart, "ok": apart <= max(GRAPH, 10 * noise)}
    return found | {"ok": all(found[kind]["ok"] for kind in CHECKED)}
