"""The clip of the KD gradient: golden values, loops in float64, and what becomes of gradients that are not finite."""

import math

import pytest
import torch

from rolewise.objective import clip, clip_and_add


def scalar(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


def loop_reference(task, kd, weight, sigmoid, mode):
    """Straight from the equation, tensor by tensor, in Python floats."""
    sums = []
    for t, k in zip(task, kd, strict=True):
        t_values, k_values = t.flatten().tolist(), k.flatten().tolist()
        if mode == "pre_clip":
            k_values = [weight * x for x in k_values]
        bound = math.sqrt(sum(x * x for x in t_values)) * sigmoid
        norm = math.sqrt(sum(x * x for x in k_values))
        shrink = bound / norm if norm > bound else 1.0
        after = weight if mode == "post_clip" else 1.0
        sums.append([a + after * shrink * b for a, b in zip(t_values, k_values, strict=True)])
    return sums


@pytest.mark.parametrize(
    ("epoch", "expected"), [(0, (4.5, 6.0)), (1, (5.193176, 6.924234)), (60, (6.0, 8.0))]
)
def test_golden_values(epoch, expected):
    # method: g_c = (3, 4), g_d = (6, 8); lambda 1
    task, kd = (
        [torch.tensor([3.0, 4.0], dtype=torch.float64)],
        [torch.tensor([6.0, 8.0], dtype=torch.float64)],
    )
    sums, dropped = clip_and_add(task, kd, weight=scalar(1.0), sigmoid=scalar(1 / (1 + math.exp(-epoch))))
    assert sums[0].tolist() == pytest.approx(expected, abs=1e-6)
    assert dropped.item() == 0


@pytest.mark.parametrize("mode", ["post_clip", "pre_clip", "ignored"])
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_equals_the_loops(mode, size):
    generator = torch.Generator().manual_seed(1)
    shapes = [(4, 3, 3, 3), (7,), (5, 2)]
    task = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    kd = [size * torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    sums, _ = clip_and_add(task, kd, weight=scalar(0.4), sigmoid=scalar(0.7311), mode=mode)
    for found, expected in zip(sums, loop_reference(task, kd, 0.4, 0.7311, mode), strict=True):
        assert found.flatten().tolist() == pytest.approx(expected, rel=1e-12)


def test_clipped_norm_never_exceeds_the_bound_and_a_small_gradient_is_unchanged():
    task, big, small = torch.ones(10), 100 * torch.ones(10), 0.01 * torch.ones(10)
    (clipped, kept), _ = clip_and_add(
        [task, task], [big, small], weight=torch.tensor(1.0), sigmoid=torch.tensor(0.5)
    )
    assert (clipped - task).norm().item() == pytest.approx(0.5 * task.norm().item(), rel=1e-6)
    torch.testing.assert_close(kept - task, small, rtol=1e-5, atol=1e-7)


def test_post_clip_is_linear_in_lambda_and_ignored_is_independent_of_it():
    task, kd = [torch.tensor([3.0, 4.0])], [torch.tensor([60.0, 80.0])]

    def extra(weight, mode):
        sums, _ = clip_and_add(task, kd, weight=torch.tensor(weight), sigmoid=torch.tensor(0.5), mode=mode)
        return sums[0] - task[0]

    torch.testing.assert_close(extra(0.4, "post_clip"), 0.4 * extra(1.0, "post_clip"))
    torch.testing.assert_close(
        extra(0.4, "pre_clip"), extra(1.0, "pre_clip")
    )  # the clip is active: no effect
    torch.testing.assert_close(extra(0.1, "ignored"), extra(1.0, "ignored"))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_is_dropped_and_counted(bad):
    task = [torch.ones(3), torch.ones(3)]
    kd = [torch.tensor([1.0, bad, 1.0]), torch.ones(3)]
    sums, dropped = clip_and_add(task, kd, weight=torch.tensor(1.0), sigmoid=torch.tensor(1.0))
    assert dropped.item() == 1
    assert sums[0].tolist() == [1, 1, 1]
    assert sums[1].tolist() == pytest.approx([2, 2, 2])


def test_zero_gradients_and_missing_ones():
    zero = torch.zeros(2)
    sums, dropped = clip_and_add(
        [zero, zero, torch.ones(2), None],
        [torch.ones(2), zero, None, torch.ones(2)],
        weight=torch.tensor(1.0),
        sigmoid=torch.tensor(0.5),
    )
    # No task gradient, no KD gradient: the bound is 0.
    assert [x.tolist() for x in sums] == [[0, 0], [0, 0], [1, 1], [0, 0]]
    assert dropped.item() == 0


@pytest.mark.parametrize("mode", ["post_clip", "pre_clip", "ignored"])
def test_all_tensors_at_once_equal_one_after_the_other(monkeypatch, mode):
    """As on a GPU: gradients in other memory formats, one that is not finite, one that is missing, one of zeros."""
    generator = torch.Generator().manual_seed(2)
    shapes = [(8, 4, 3, 3), (8, 4, 3, 3), (7,), (5, 2), (6, 4, 1, 1), (3,)]
    task, kd = ([torch.randn(shape, generator=generator) for shape in shapes] for _ in range(2))
    task[0] = task[0].contiguous(memory_format=torch.channels_last)
    kd[1] = kd[1].contiguous(memory_format=torch.channels_last)
    kd[2][3], kd[3], task[4] = math.inf, torch.zeros(5, 2), None
    before = [None if t is None else t.clone() for t in (*task, *kd)]
    numbers = {"weight": torch.tensor(0.4), "sigmoid": torch.tensor(0.7), "mode": mode}
    expected, lost = clip_and_add(task, kd, **numbers)
    monkeypatch.setattr(clip, "_are_flat", lambda tensors: True)
    found, dropped = clip_and_add(task, kd, **numbers)
    assert int(dropped) == int(lost) == 1
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
    assert found[0].stride() == task[0].stride()
    for given, kept in zip((*task, *kd), before, strict=True):
        assert given is kept is None or torch.equal(given, kept)
