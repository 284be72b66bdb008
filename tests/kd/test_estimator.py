"""What trains MHGD's heads, against loops and a training by hand."""

import paper_samples as samples
import torch
from paper_samples import reference
from torch import Tensor

from rolewise.kd import MHGD
from rolewise.kd._images import training_batches
from rolewise.kd.estimator import Estimator
from rolewise.seeds import torch_generator

EPS, MOMENTUM = 1e-5, 0.1


def _reference_state(estimator: Estimator) -> dict[str, dict[str, Tensor]]:
    parts = {"rows": estimator.row_norm, "columns": estimator.column_norm, "inner": estimator.inner_norm}
    state = {
        name: {
            "weight": getattr(estimator, name).weight.detach().double().requires_grad_(),
            "gain": norm.weight.detach().double().requires_grad_(),
            "shift": norm.bias.detach().double().requires_grad_(),
            "mean": norm.running_mean.double(),
            "variance": norm.running_var.double(),
        }
        for name, norm in parts.items()
    }
    output = estimator.output
    state["output"] = {
        "weight": output.weight.detach().double().requires_grad_(),
        "bias": output.bias.detach().double().requires_grad_(),
    }
    return state


def _vectors(n: int, channels: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.rand(n, channels, generator=generator, dtype=torch.float64))


def test_the_estimator_equals_the_loops() -> None:
    estimator = Estimator(5, 4, 3, generator=torch.Generator().manual_seed(1), eps=EPS, momentum=MOMENTUM)
    state = _reference_state(estimator)
    estimator.double()
    current, previous = _vectors(4, 5, 1), _vectors(4, 4, 2)
    found = estimator.loss(current, previous, torch.Generator().manual_seed(7))
    noise = torch.randn(3, 4, 1, generator=torch.Generator().manual_seed(7))
    kept = noise > noise.mean(0, keepdim=True)
    assert 0 < int(kept.sum()) < kept.numel()
    expected = reference.estimator_loss(current, previous, state, noise, momentum=MOMENTUM, eps=EPS)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)
    pairs = {
        "rows.weight": ("rows", "weight"),
        "row_norm.weight": ("rows", "gain"),
        "column_norm.bias": ("columns", "shift"),
        "columns.weight": ("columns", "weight"),
        "inner.weight": ("inner", "weight"),
        "output.weight": ("output", "weight"),
        "output.bias": ("output", "bias"),
    }
    parameters = dict(estimator.named_parameters())
    mine = torch.autograd.grad(found, [parameters[name] for name in pairs])
    theirs = torch.autograd.grad(expected, [state[part][name] for part, name in pairs.values()])
    for name, a, b in zip(pairs, mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-12, msg=name)
    torch.testing.assert_close(estimator.row_norm.running_var, state["rows"]["variance"])
    torch.testing.assert_close(estimator.column_norm.running_mean, state["columns"]["mean"])


def test_prepare_equals_a_training_by_hand() -> None:
    """Three steps of one batch each: loops for the loss, SGD with Nesterov momentum and L2 without 1/2 written out."""
    teacher, split, heads, seed = samples.Teacher((3, 4)), samples.images(5), 2, 11
    loss = MHGD(heads=heads)
    loss.prepare(teacher, split, epochs=3, seed=seed)

    noise = torch_generator(seed, "mhgd-heads")
    state = _reference_state(Estimator(4, 3, heads, generator=noise, eps=EPS, momentum=MOMENTUM))
    learned = [x for part in state.values() for x in part.values() if x.requires_grad]
    velocity: list[Tensor | None] = [None] * len(learned)
    for epoch in range(3):
        (batch,) = training_batches(
            split, batch=128, seed=seed, stream="mhgd", epoch=epoch, device=torch.device("cpu")
        )
        with torch.no_grad():
            low = teacher.a(batch)
            features = low.double(), teacher.b(low).double()
        previous, current = (torch.stack([reference.singular_vectors(f, 1)[0] for f in x]) for x in features)
        previous, current = (v * v.sum(1, keepdim=True).sign() for v in (previous, current))
        draws = torch.randn(heads, 5, 1, generator=noise)
        value = reference.estimator_loss(current, previous, state, draws, momentum=MOMENTUM, eps=EPS)
        for x in learned:
            if x is not state["output"]["bias"]:
                value = value + 5e-4 * (x * x).sum()
        gradients = torch.autograd.grad(value, learned)
        with torch.no_grad():
            for index, (x, g) in enumerate(zip(learned, gradients, strict=True)):
                old = velocity[index]
                velocity[index] = new = g if old is None else 0.9 * old + g
                x -= 0.1 * (g + 0.9 * new)

    for name, head in (("rows", loss.pairs[0].rows), ("columns", loss.pairs[0].columns)):
        for key, expected in state[name].items():
            found = head.get_buffer(key).double()
            # The columns' shifts stay 0, since a softmax does not see them; all others are of order 1.
            error = float(
                (found - expected).detach().abs().max() / expected.detach().abs().max().clamp_min(0.1)
            )
            assert error < 1e-4, (name, key, error)
