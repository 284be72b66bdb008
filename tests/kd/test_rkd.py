"""RKD: golden values, the float64 loops, invariances, samples that coincide."""

import math

import paper_samples as samples
import pytest
import torch
from paper_samples import reference
from torch.nn import functional as F

from rolewise.errors import InputError
from rolewise.kd import RKD, Outputs, rkd
from rolewise.kd.layers import unit
from rolewise.kd.rkd import SHORTEST, angles, relational_loss, relative_distances, squared_distances

S = torch.tensor([[1, 0, 0], [0, 2, 0], [1, 1, 0], [0, 1, 3]], dtype=torch.float64)
T = torch.tensor([[2, 1, 0], [0, 1, 1], [1, -1, 0], [0, 0, 1]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("make", "weights", "value"),
    [
        (RKD, {}, 12.0892685997),
        (RKD, {"distance_weight": 1, "angle_weight": 0}, 0.0935021362),
        (RKD, {"distance_weight": 0, "angle_weight": 1}, 0.0741416179),
        (RKD.original, {"features": None}, 7.3040227162),
        (RKD.original, {"features": None, "distance_weight": 1, "angle_weight": 0}, 0.1144931852),
        (RKD.original, {"features": None, "distance_weight": 0, "angle_weight": 1}, 0.0888338617),
    ],
)
def test_golden_values(make: object, weights: dict, value: float) -> None:
    assert float(make(**weights)(Outputs(S), Outputs(T))) == pytest.approx(value, abs=2e-10)  # type: ignore[operator]


@pytest.mark.parametrize("dtype", samples.TOLERANCE)
def test_equals_the_loops(dtype: torch.dtype) -> None:
    samples.check_against(RKD(), lambda s, t: reference.rkd(s.logits, t.logits), dtype)
    samples.check_against(
        RKD.original(),
        lambda s, t: reference.rkd(
            s.features[-1].mean((2, 3)),
            t.features[-1].mean((2, 3)),
            distance_weight=25,
            angle_weight=50,
            normalize=False,
            diagonal=False,
        ),
        dtype,
    )


def test_gradcheck() -> None:
    logits, teacher = samples.outputs(1, n=4).logits.requires_grad_(), samples.outputs(2, n=4)
    assert torch.autograd.gradcheck(lambda x: RKD()(Outputs(x), teacher), logits)


def test_invariant_to_scale_of_the_logits_and_to_the_order_of_the_batch() -> None:
    x, y = samples.outputs(1, n=5), samples.outputs(2, n=5)
    value = float(RKD()(x, y))
    assert float(RKD()(Outputs(7.5 * x.logits), Outputs(0.1 * y.logits))) == pytest.approx(value, rel=1e-9)
    order = torch.tensor([3, 0, 4, 1, 2])
    assert float(RKD()(Outputs(x.logits[order]), Outputs(y.logits[order]))) == pytest.approx(value, rel=1e-9)


def test_an_equilateral_triangle() -> None:
    points = torch.tensor([[0, 0], [1, 0], [0.5, math.sqrt(3) / 2]], dtype=torch.float64)
    squared = squared_distances(points)
    distance = relative_distances(squared, diagonal=False)
    torch.testing.assert_close(distance, 1 - torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-7)
    near = squared.rsqrt().nan_to_num(posinf=0)
    cosine = angles(squared, near)
    assert float(cosine[0, 1, 2]) == pytest.approx(0.5)
    assert float(cosine[0, 1, 1]) == pytest.approx(1)
    assert float(cosine[0, 0].abs().max()) == 0


def test_equals_the_products_of_directions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Value and gradients in float32, with two rows a thousandth apart, some rows at a time; both sides have one."""
    g = torch.Generator().manual_seed(0)
    rows = [F.normalize(torch.randn(9, 5, generator=g), dim=1) for _ in range(2)]
    for x in rows:
        x[3] = x[2] + 1e-3 * torch.randn(5, generator=g)
    monkeypatch.setattr(rkd, "IN_CACHE", 2 * 9**2)
    ours = [x.clone().requires_grad_() for x in rows]
    relational_loss(*ours).backward()
    theirs = [x.double().requires_grad_() for x in rows]
    cosines, distances = [], []
    for x in theirs:
        difference = x.unsqueeze(0) - x.unsqueeze(1)
        direction = unit(difference.flatten(0, 1), dim=1, shortest=SHORTEST).view_as(difference)
        cosines.append(direction @ direction.mT)
        length = difference.square().sum(2).clamp_min(1e-12).sqrt()
        distances.append(length / length.mean())
    expected = 50 * F.smooth_l1_loss(*distances) + 100 * F.smooth_l1_loss(*cosines)
    expected.backward()
    assert float(relational_loss(*rows)) == pytest.approx(float(expected.detach()), rel=1e-6)
    for x, y in zip(ours, theirs, strict=True):
        torch.testing.assert_close(x.grad, y.grad.float(), rtol=1e-5, atol=1e-5 * float(y.grad.abs().max()))


def test_maps_of_other_sizes_can_be_compared() -> None:
    x, y = samples.outputs(1), samples.outputs(2, maps=((2, 5, 5),) * 3)
    pooled = RKD(features=0)(x, y)
    expected = RKD()(Outputs(x.features[0].mean((2, 3))), Outputs(F.pad(y.features[0].mean((2, 3)), (0, 2))))
    assert float(pooled) == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.parametrize("dtype", samples.TOLERANCE)
@pytest.mark.parametrize(
    "case", ["zero student", "one zero row", "constant student", "duplicates in both", "two"]
)
def test_degenerate_batches_have_finite_gradients(case: str, dtype: torch.dtype) -> None:
    student, teacher = samples.outputs(1, n=6).logits, samples.outputs(2, n=6).logits
    if case == "zero student":
        student = torch.zeros_like(student)
    elif case == "one zero row":
        student[2] = 0
    elif case == "constant student":
        student = student[:1].expand(6, -1)
    elif case == "duplicates in both":
        student, teacher = student[[0, 1, 2] * 2], teacher[[0, 1, 2] * 2]
    else:
        student, teacher = student[:2], teacher[:2]
    value, gradient, *_ = samples.gradients(RKD(), Outputs(student.to(dtype)), Outputs(teacher.to(dtype)))
    assert bool(value.isfinite())
    assert bool(gradient.isfinite().all())
    assert float(gradient.abs().max()) < 1e3


def test_duplicated_samples_change_the_gradient_of_neither() -> None:
    """Where student and teacher both repeat a sample, the pair of copies says nothing: the gradients are equal."""
    student, teacher = (
        samples.outputs(1, n=3).logits[[0, 1, 2, 0]],
        samples.outputs(2, n=3).logits[[0, 1, 2, 0]],
    )
    _, gradient, *_ = samples.gradients(RKD(), Outputs(student), Outputs(teacher))
    torch.testing.assert_close(gradient[0], gradient[3])
    assert float(gradient.abs().max()) > 0


def test_rows_without_direction() -> None:
    rows = unit(torch.tensor([[3.0, 4.0], [0.0, 0.0], [1e-8, 0.0]]), dim=1, shortest=SHORTEST)
    torch.testing.assert_close(rows, torch.tensor([[0.6, 0.8], [0, 0], [0, 0]]))


def test_states_how_it_is_used() -> None:
    for loss in (RKD(), RKD.paper(), RKD.release()):
        assert (loss.task_weight, loss.weight, loss.decay, loss.clip) == (1, 1, True, False)
        assert (loss.distance_weight, loss.angle_weight, loss.normalize, loss.features) == (
            50,
            100,
            True,
            None,
        )
        assert not loss.needs_features
    assert RKD(features=-1).needs_features
    assert RKD.original().needs_features


def test_refuses() -> None:
    x = samples.outputs(1)
    with pytest.raises(
        InputError, match="RKD compares images with each other and needs a batch of at least 2, got 1"
    ):
        RKD()(samples.outputs(1, n=1), samples.outputs(2, n=1))
    with pytest.raises(
        InputError, match=r"`features` must be an index into the 3 feature maps \(-3 to 2\), got 3"
    ):
        RKD(features=3)(x, x)
    with pytest.raises(
        InputError, match="`distance_weight` and `angle_weight` must be at least 0, got -1, 1"
    ):
        RKD(distance_weight=-1, angle_weight=1)
