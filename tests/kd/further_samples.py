"""The further distillation losses with inputs and references, for the tests in this folder."""

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace

import kd_contrast
import kd_further as reference
import torch
from torch import Tensor, nn

from rolewise.kd import LOSSES
from rolewise.kd.base import KDLoss, Outputs

TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4}
LABELS, IDS = (1, 0, 3, 1), (907, 5, 31, 300)
CLASSES, IMAGES = 5, 9

Shapes = tuple[tuple[int, int, int], ...]
STUDENT: Shapes = ((3, 4, 4), (4, 2, 2))
TEACHER: Shapes = ((4, 4, 4), (5, 2, 2))


@dataclass(frozen=True)
class Case:
    """One loss under test.

    Args:
        arguments: of its constructor.
        reference: value of the loss from (loss, student, teacher), in float64.
        student, teacher: shapes of the maps.
    """

    reference: Callable[[KDLoss, Outputs, Outputs], Tensor]
    arguments: dict = field(default_factory=dict)
    student: Shapes = STUDENT
    teacher: Shapes = TEACHER


def outputs(shapes: Shapes, seed: int, *, n: int = 4, dtype: torch.dtype = torch.float64) -> Outputs:
    """Random outputs whose values are exact in float32; labels and ids are the same for every seed."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(n, CLASSES, generator=generator)
    features = tuple(torch.randn(n, *shape, generator=generator).to(dtype) for shape in shapes)
    return Outputs(logits.to(dtype), features, torch.tensor(LABELS[:n]), torch.tensor(IDS[:n]))


def pair(case: Case, *, n: int = 4, dtype: torch.dtype = torch.float64) -> tuple[Outputs, Outputs]:
    """Student's and teacher's outputs; the student's require gradients."""
    student = outputs(case.student, 1, n=n, dtype=dtype)
    for leaf in (student.logits, *student.features):
        leaf.requires_grad_(True)
    return student, outputs(case.teacher, 2, n=n, dtype=dtype)


class Teacher(nn.Module):
    """A teacher whose maps have the shapes of a case: strided 1x1 convolutions of 8x8 images."""

    def __init__(self, shapes: Shapes) -> None:
        super().__init__()
        self.taps = tuple(f"map{index}" for index in range(len(shapes)))
        with torch.random.fork_rng(devices=[]):
            for name, (channels, height, _) in zip(self.taps, shapes, strict=True):
                self.add_module(name, nn.Conv2d(3, channels, 1, stride=8 // height))
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.normal_(generator=generator)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        maps = [getattr(self, name)(x).mean((1, 2, 3)) for name in self.taps]
        return torch.stack(maps, 1)


def split(n: int = 12) -> SimpleNamespace:
    """A few random 8x8 images as a training split."""
    generator = torch.Generator().manual_seed(4)
    images = torch.randint(256, (n, 8, 8, 3), generator=generator, dtype=torch.uint8)
    return SimpleNamespace(
        images=images, labels=torch.arange(n) % 3, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4)
    )


def made(name: str, case: Case, *, dtype: torch.dtype = torch.float64, seed: int = 0) -> KDLoss:
    """The loss, prepared and built for the case; parameters and buffers in `dtype`."""
    loss = LOSSES[name](**case.arguments)
    if not loss.prepared:
        loss.prepare(Teacher(case.teacher), split(), epochs=2, seed=seed)
    student, teacher = outputs(case.student, 5, n=2), outputs(case.teacher, 6, n=2)
    loss.build(student, teacher, generator=torch.Generator().manual_seed(seed), images=IMAGES)
    spread(loss, seed)
    return loss.to(dtype)


def spread(loss: KDLoss, seed: int) -> None:
    """Moves every parameter from its initial value, so that no batch norm is the identity; exact in float32."""
    generator = torch.Generator().manual_seed(seed + 100)
    with torch.no_grad():
        for parameter in loss.parameters():
            parameter += (torch.randn(parameter.shape, generator=generator) / 8).to(parameter.dtype)
            parameter.copy_(parameter.float())


def state(loss: KDLoss) -> dict[str, Tensor]:
    """Parameters (with gradients) and buffers by name."""
    return dict(loss.named_parameters()) | dict(loss.named_buffers())


def _maps(
    function: Callable[..., Tensor], **settings: object
) -> Callable[[KDLoss, Outputs, Outputs], Tensor]:
    return lambda loss, s, t: function(list(s.features), list(t.features), **settings)


def _with_state(
    function: Callable[..., Tensor], *settings: object
) -> Callable[[KDLoss, Outputs, Outputs], Tensor]:
    return lambda loss, s, t: function(list(s.features), list(t.features), state(loss), *settings)


def _last(function: Callable[..., Tensor], *settings: object) -> Callable[[KDLoss, Outputs, Outputs], Tensor]:
    return lambda loss, s, t: function(s.features[-1], t.features[-1], state(loss), *settings)


def _logits(
    function: Callable[..., Tensor], *settings: object
) -> Callable[[KDLoss, Outputs, Outputs], Tensor]:
    return lambda loss, s, t: function(s.logits, t.logits, *settings)


def _ofd(loss: KDLoss, s: Outputs, t: Outputs) -> Tensor:
    margins = torch.split(loss.margins, [feature.shape[1] for feature in t.features])
    return reference.ofd(list(s.features), list(t.features), state(loss), [m.tolist() for m in margins])


def contrast(loss: KDLoss) -> kd_contrast.Contrast:
    """The reference's memory at the state of a CRD that has made no step."""
    negatives = min(loss.negatives, len(loss.student_rows) - 1)
    return kd_contrast.Contrast(
        loss.student_rows, loss.teacher_rows, int(loss.seed), negatives, loss.temperature, loss.momentum
    )


def embed(x: Tensor, layer: nn.Linear) -> Tensor:
    """The linear layer on the pooled map, not normalized."""
    return torch.stack([torch.stack(row) for row in reference.pooled(x)]) @ layer.weight.T + layer.bias


def _crd(loss: KDLoss, s: Outputs, t: Outputs) -> Tensor:
    student, teacher = (
        embed(s.features[-1], loss.student_embedding),
        embed(t.features[-1], loss.teacher_embedding),
    )
    return contrast(loss)(student, teacher, s.ids.tolist(), s.labels.tolist())


EQUAL: Shapes = ((3, 4, 4), (4, 2, 2))
CASES = {
    "at": Case(_maps(reference.at)),
    "fitnet": Case(_with_state(reference.fitnet, 1)),
    "sp": Case(lambda loss, s, t: reference.sp(s.features[-1], t.features[-1])),
    "cc": Case(_last(reference.cc, 0.4, 2), {"size": 3}),
    "pkt": Case(lambda loss, s, t: reference.pkt(s.features[-1], t.features[-1])),
    "vid": Case(_with_state(reference.vid, 1e-5)),
    "nst": Case(_maps(reference.nst)),
    "ft": Case(_last(reference.ft, "full")),
    "ab": Case(_with_state(reference.ab, 1.0)),
    "fsp": Case(_maps(reference.fsp), teacher=((3, 4, 4), (4, 4, 4))),
    "crd": Case(_crd, {"size": 3, "negatives": 4}),
    "dkd": Case(lambda loss, s, t: reference.dkd(s.logits, t.logits, s.labels.tolist(), 1.0, 8.0, 4.0)),
    "dist": Case(_logits(reference.dist, 1.0, 1.0, 1.0)),
    "reviewkd": Case(_with_state(reference.reviewkd)),
    "ofd": Case(_ofd),
    "logit-std": Case(_logits(reference.logit_std, 2.0, True)),
}


def gradients(loss: KDLoss, student: Outputs) -> dict[str, Tensor]:
    """What a backward pass left, by name; leaves that took no part are left out."""
    leaves = {"logits": student.logits} | {f"features[{i}]": f for i, f in enumerate(student.features)}
    leaves |= dict(loss.named_parameters())
    return {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}


def clear(loss: KDLoss, student: Outputs) -> None:
    """Forgets the gradients."""
    for leaf in (student.logits, *student.features, *loss.parameters()):
        leaf.grad = None


def assert_same(found: Tensor, expected: Tensor, name: str = "") -> None:
    """Equal to the tolerance of `found`'s type, relative to the value or to the largest of a tensor."""
    rtol = TOLERANCE[found.dtype]
    atol = rtol * float(expected.abs().max()) + 1e-12
    torch.testing.assert_close(
        found.double(), expected.double(), rtol=rtol, atol=atol, msg=lambda m: f"{name}: {m}"
    )


def assert_follows(name: str, case: Case) -> None:
    """Value and gradients of a loss against its reference, in float64 and in float32."""
    exact = made(name, case)
    student, teacher = pair(case)
    expected = case.reference(exact, student, teacher)
    expected.backward()
    wanted = gradients(exact, student)
    for dtype in (torch.float64, torch.float32):
        loss = made(name, case, dtype=dtype)
        student, teacher = pair(case, dtype=dtype)
        found = loss(student, teacher)
        assert found.dtype == dtype
        assert found.shape == ()
        assert_same(found.detach(), expected.detach(), "value")
        clear(loss, student)
        found.backward()
        got = gradients(loss, student)
        assert got.keys() == wanted.keys()
        for leaf, gradient in wanted.items():
            assert_same(got[leaf], gradient, leaf)
