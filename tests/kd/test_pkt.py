"""Probabilistic knowledge transfer."""

from dataclasses import replace

import further_samples as samples
import torch

from rolewise.kd.base import Outputs
from rolewise.kd.pkt import PKT


def test_zero_at_equality_and_at_any_scale() -> None:
    student, _ = samples.pair(samples.CASES["pkt"])
    for factor in (1.0, 5.0):
        teacher = replace(student, features=tuple(factor * f for f in student.features))
        assert PKT()(student, teacher).abs() < 1e-17


def test_single_precision_keeps_its_digits_near_equality() -> None:
    generator = torch.Generator().manual_seed(0)
    teacher = torch.rand(128, 64, 1, 1, generator=generator)
    student = teacher + 1e-3 * torch.randn(teacher.shape, generator=generator)
    logits = torch.zeros(128, 10)
    single = PKT()(Outputs(logits, (student,)), Outputs(logits, (teacher,)))
    double = PKT()(
        Outputs(logits.double(), (student.double(),)), Outputs(logits.double(), (teacher.double(),))
    )
    torch.testing.assert_close(single.double(), double, rtol=1e-6, atol=0)

    def plain(x: torch.Tensor) -> torch.Tensor:
        f = x.flatten(1) / x.flatten(1).norm(dim=1, keepdim=True)
        kernel = (f @ f.T + 1) / 2
        return kernel / kernel.sum(1, keepdim=True)

    p, q = plain(teacher), plain(student)
    naive = (p * torch.log((p + 1e-7) / (q + 1e-7))).mean()
    assert (naive - double).abs() > 1e-2 * double


def test_opposite_images_in_closed_form() -> None:
    x = Outputs(torch.zeros(2, 2).double(), (torch.tensor([[1.0], [1.0]]).double().view(2, 1, 1, 1),))
    y = replace(x, features=(torch.tensor([[1.0], [-1.0]]).double().view(2, 1, 1, 1),))
    # The student's neighbors have probability (1/2, 1/2), the teacher's (1, 0).
    torch.testing.assert_close(PKT()(x, y), torch.log(torch.tensor(2.0).double()) / 2, rtol=1e-6, atol=0)
