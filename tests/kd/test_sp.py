"""Similarity-preserving distillation."""

from dataclasses import replace

import further_samples as samples
import pytest
import torch
from further_samples import Case, reference

from rolewise.errors import InputError
from rolewise.kd.sp import SP


def test_another_layer() -> None:
    case = Case(lambda _, s, t: reference.sp(s.features[0], t.features[0]), {"layer": 0})
    samples.assert_follows("sp", case)


def test_zero_at_equality_scale_and_rotation() -> None:
    student, _ = samples.pair(samples.CASES["sp"])
    last = student.features[-1].detach()
    turn, _ = torch.linalg.qr(
        torch.randn(16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    )
    for other in (last, 3 * last, (last.flatten(1) @ turn).view_as(last)):
        teacher = replace(student, features=(student.features[0], other))
        assert SP()(student, teacher) < 1e-30


def test_alike_against_unlike() -> None:
    alike, unlike = torch.ones(2, 2, 1, 1), torch.eye(2).view(2, 2, 1, 1)
    x, y = (samples.Outputs(torch.zeros(2, 2), (f,)) for f in (alike, unlike))
    # Rows (1, 1) / sqrt 2 against (1, 0) and (0, 1): 2 (2 - sqrt 2) / 4.
    torch.testing.assert_close(SP()(x, y), torch.tensor(1 - 0.5**0.5))


def test_one_image_is_refused() -> None:
    student, teacher = samples.pair(samples.CASES["sp"], n=1)
    with pytest.raises(
        InputError, match="SP compares images with each other and needs a batch of at least 2, got 1"
    ):
        SP()(student, teacher)
