"""Mixup and CutMix against loops from the papers' equations."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from rolewise.augment import Mixing, MixPlan, mix_images, mix_labels
from rolewise.augment.mixing import partners
from rolewise.errors import InputError, InputTypeError

BOTH = Mixing(mixup=0.4, cutmix=1.0, probability=0.8)


def batch(n: int = 12, height: int = 7, width: int = 9) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(n, 3, height, width, generator=generator)
    labels = torch.randint(0, 5, (n,), generator=generator)
    return images, labels, torch.randperm(40, generator=generator)[:n]


def loop(mixing: Mixing, images, labels, ids, *, seed: int, epoch: int, classes: int):
    """One image and one pixel at a time, in float64: eq. 1 of Mixup, eq. 1 and 2 and algorithm 1 of CutMix."""
    n, _, h, w = images.shape
    draws = mixing.draws(seed, epoch, 40)
    result, targets = images.double().clone(), torch.zeros(n, classes, dtype=torch.float64)
    kinds = []
    for i in range(n):
        j = i + 1 if i % 2 == 0 and i + 1 < n else i - 1
        u_x, u_y, which, whether = draws.uniform[int(ids[i])]
        cut = which < 0.5 if mixing.mixup and mixing.cutmix else mixing.mixup is None
        lam = draws.shares[int(ids[i]), int(cut)]
        if whether >= mixing.probability:
            lam, cut = 1.0, False
        kinds.append("none" if lam == 1.0 else "cutmix" if cut else "mixup")
        if cut:
            r_w, r_h = int(w * math.sqrt(1 - lam)), int(h * math.sqrt(1 - lam))
            x1, x2 = max(0, int(u_x * w) - r_w // 2), min(w, int(u_x * w) + r_w // 2)
            y1, y2 = max(0, int(u_y * h) - r_h // 2), min(h, int(u_y * h) + r_h // 2)
            for y in range(y1, y2):
                for x in range(x1, x2):
                    result[i, :, y, x] = images[j, :, y, x].double()
            lam = 1 - (x2 - x1) * (y2 - y1) / (w * h)
        else:
            result[i] = lam * images[i].double() + (1 - lam) * images[j].double()
        targets[i, labels[i]] += lam
        targets[i, labels[j]] += 1 - lam
    return result, targets, kinds


@pytest.mark.parametrize(
    "mixing", [Mixing(mixup=0.2), Mixing(cutmix=1.0), BOTH, Mixing(cutmix=0.5, probability=0.0)]
)
@pytest.mark.parametrize(("n", "height", "width"), [(12, 7, 9), (11, 32, 32), (2, 1, 5)])
def test_equal_to_a_loop(mixing, n, height, width):
    images, labels, ids = batch(n, height, width)
    plan = mixing.plan(mixing.draws(3, 5, 40), ids, height, width)
    expected, targets, kinds = loop(mixing, images, labels, ids, seed=3, epoch=5, classes=5)
    found = mix_images(images, plan)
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(mix_labels(labels, plan, 5).double(), targets, rtol=1e-6, atol=1e-7)
    for i, kind in enumerate(kinds):
        if kind != "mixup":  # pixels are copied, not computed
            assert torch.equal(found[i].double(), expected[i])
    if mixing is BOTH and n == 12:
        assert set(kinds) == {"none", "mixup", "cutmix"}


def test_each_image_depends_on_its_id_and_partner_alone():
    images, labels, ids = batch(12, 8, 8)
    draws = BOTH.draws(0, 1, 40)
    whole = BOTH.plan(draws, ids, 8, 8)
    for longer in (BOTH.draws(0, 1, 41), BOTH.draws(0, 1, 4000)):
        for one, other in zip(whole, BOTH.plan(longer, ids, 8, 8), strict=True):
            assert torch.equal(one, other)
    half = BOTH.plan(draws, ids[4:8], 8, 8)
    assert torch.equal(mix_images(images[4:8], half), mix_images(images, whole)[4:8])
    assert torch.equal(mix_labels(labels[4:8], whole.part(4, 8), 5), mix_labels(labels, whole, 5)[4:8])
    assert not np.array_equal(draws.uniform, BOTH.draws(0, 2, 40).uniform)
    assert not np.array_equal(draws.shares, BOTH.draws(1, 1, 40).shares)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 2.5])
def test_shares_are_beta_distributed_and_the_rest_is_uniform(alpha):
    draws = Mixing(mixup=alpha, cutmix=1.0).draws(0, 0, 4000)
    centered = draws.shares[:, 0] - 0.5  # moments of Beta(a, a) in closed form, four standard errors wide
    second, fourth = 1 / (4 * (2 * alpha + 1)), 3 / (16 * (2 * alpha + 1) * (2 * alpha + 3))
    assert abs(centered.mean()) < 4 * math.sqrt(second / 4000)
    assert abs((centered**2).mean() - second) < 4 * math.sqrt((fourth - second**2) / 4000)
    for column in (draws.shares[:, 1], *draws.uniform.T):  # Kolmogorov's distance, p = 0.001
        ordered = np.sort(column)
        assert max(abs(ordered - (np.arange(4000) + 0.5) / 4000)) < 1.95 / math.sqrt(4000)
    correlations = np.corrcoef(np.concatenate([draws.shares, draws.uniform], axis=1).T)
    assert abs(correlations - np.eye(6)).max() < 0.08


def test_the_part_of_pixels_that_cutmix_keeps():
    """A side r of the box is r - r^2/4 long after the clipping, on average over its center, and r^2 is uniform, so the
    mean part that is cut out is 1/2 - 1/5 + 1/48; whole pixels hardly matter in an image of a thousand."""
    mixing, ids = Mixing(cutmix=1.0), torch.arange(20_000)
    plan = mixing.plan(mixing.draws(1, 0, 20_000), ids, 1024, 1024)
    assert plan.share.mean().item() == pytest.approx(1 - (1 / 2 - 1 / 5 + 1 / 48), abs=0.006)
    left, top, right, bottom = plan.box.unbind(1)
    assert min(left.min(), top.min()) == 0
    assert max(right.max(), bottom.max()) == 1024
    assert torch.equal(plan.share, 1 - ((right - left) * (bottom - top)).float() / 1024**2)
    assert torch.equal(plan.weight, torch.ones(20_000))


@pytest.mark.parametrize(("n", "expected"), [(1, [0]), (2, [1, 0]), (5, [1, 0, 3, 2, 3]), (4, [1, 0, 3, 2])])
def test_partners(n, expected):
    assert partners(n, torch.device("cpu")).tolist() == expected


def test_dtype_and_memory_format_stay():
    images, _, ids = batch(4, 8, 8)
    plan = BOTH.plan(BOTH.draws(0, 0, 40), ids, 8, 8)
    exact = mix_images(images, plan)
    laid = images.contiguous(memory_format=torch.channels_last)
    found = mix_images(laid, plan)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(found, exact)
    half = mix_images(images.bfloat16(), plan)
    assert half.dtype == torch.bfloat16
    assert torch.equal(half, mix_images(images.bfloat16().float(), plan).bfloat16())


def test_mixed_labels_give_the_papers_loss():
    """lambda CE(y_i) + (1 - lambda) CE(y_j), with and without label smoothing."""
    _, labels, ids = batch(6, 4, 4)
    plan = Mixing(mixup=1.0).plan(Mixing(mixup=1.0).draws(0, 0, 40), ids, 4, 4)
    logits = torch.randn(6, 5, generator=torch.Generator().manual_seed(1))
    order = partners(6, torch.device("cpu"))
    for smoothing in (0.0, 0.1):
        own, other = (
            F.cross_entropy(logits, one, reduction="none", label_smoothing=smoothing)
            for one in (labels, labels[order])
        )
        expected = (plan.share * own + (1 - plan.share) * other).mean()
        found = F.cross_entropy(logits, mix_labels(labels, plan, 5), label_smoothing=smoothing)
        torch.testing.assert_close(found, expected)


def test_a_batch_of_one_is_mixed_with_itself():
    images, labels, ids = batch(1, 4, 4)
    plan = MixPlan(torch.tensor([0.3]), torch.zeros(1, 4, dtype=torch.int32), torch.tensor([0.3]))
    torch.testing.assert_close(mix_images(images, plan), images)
    assert mix_labels(labels, plan, 5).sum() == 1
    assert ids.shape == (1,)


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({}, InputError, "`mixup` and `cutmix` are both None: give at least one"),
        ({"mixup": 0.0}, InputError, "`mixup` must be a finite number above 0, or None for off, got 0.0"),
        ({"cutmix": float("nan")}, InputError, "`cutmix` must be a finite number above 0"),
        ({"cutmix": "1"}, InputTypeError, "`cutmix` must be a number, got '1'"),
        ({"mixup": True}, InputTypeError, "`mixup` must be a number, got True"),
        ({"mixup": 1, "probability": 1.5}, InputError, "`probability` must be a number from 0 to 1, got 1.5"),
    ],
)
def test_bad_numbers(arguments, kind, message):
    with pytest.raises(kind, match=message):
        Mixing(**arguments)
