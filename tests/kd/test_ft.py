"""Factor transfer."""

import copy

import further_samples as samples
import pytest
import torch
from further_samples import Case, Teacher, reference
from torch import nn
from torch.nn import functional as F

from rolewise.errors import InputError, RunError
from rolewise.kd._images import normalized
from rolewise.kd.base import collect
from rolewise.kd.ft import FT


@pytest.mark.parametrize("form", ["full", "spatial"])
@pytest.mark.parametrize(("student", "teacher"), [((2, 2, 2), (3, 4, 4)), ((3, 4, 4), (4, 2, 2))])
def test_forms_and_sizes(form: str, student: tuple, teacher: tuple) -> None:
    def expected(loss, s, t):
        return reference.ft(s.features[-1], t.features[-1], samples.state(loss), form)

    samples.assert_follows("ft", Case(expected, {"form": form, "rate": 0.7}, (student,), (teacher,)))


class Coder(nn.Module):
    """A paraphraser in PyTorch's own layers, with a given encoder."""

    def __init__(self, loss: FT, channels: int, factors: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            sizes = ((channels, channels), (channels, factors), (factors, factors))
            self.encoder = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in sizes)
        for index, layer in enumerate(self.encoder):
            layer.weight.data = getattr(loss, f"encoder_weight_{index}").float()
            layer.bias.data = getattr(loss, f"encoder_bias_{index}").float()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.encoder:
            x = F.leaky_relu(layer(x), 0.1)
        return x


def test_preparing_keeps_what_the_factors_need_and_leaves_the_teacher_alone() -> None:
    teacher, split = Teacher(samples.TEACHER), samples.split(16)
    before = copy.deepcopy(teacher.state_dict())
    loss = FT()
    assert not loss.prepared
    loss.prepare(teacher, split, epochs=3, seed=1)
    assert loss.prepared
    assert not list(loss.parameters())
    assert all(torch.equal(before[k], v) for k, v in teacher.state_dict().items())
    assert not teacher.training
    maps = collect(teacher, normalized(split.images, split, torch.device("cpu")), teacher.taps).features[-1]
    torch.testing.assert_close(Coder(loss, 5, 2)(maps), loss._encode(maps))


def test_the_paraphraser_learns_the_teachers_map(monkeypatch: pytest.MonkeyPatch) -> None:
    errors = []
    monkeypatch.setattr(
        "rolewise.kd.ft.F.mse_loss", lambda a, b: (errors.append(((a - b) ** 2).mean()), errors[-1])[1]
    )
    monkeypatch.setattr(FT, "learning_rate", 1e-2)
    FT(rate=1.0).prepare(Teacher(samples.TEACHER), samples.split(16), epochs=120, seed=0)
    assert len(errors) == 120
    assert errors[-1] < 0.5 * errors[0]


def test_preparing_is_a_function_of_the_seed() -> None:
    def state(seed: int) -> dict:
        loss = FT()
        loss.prepare(Teacher(samples.TEACHER), samples.split(16), epochs=2, seed=seed)
        return loss.state_dict()

    a, b, c = state(0), state(0), state(1)
    assert len(a) == 6
    assert all(torch.equal(a[k], b[k]) and not torch.equal(a[k], c[k]) for k in a)


def test_what_was_prepared_goes_into_a_fresh_object_before_or_after_build() -> None:
    case = samples.CASES["ft"]
    prepared = FT()
    prepared.prepare(Teacher(case.teacher), samples.split(), epochs=1)
    student, teacher = samples.pair(case)

    def built(loss: FT) -> FT:
        loss.build(student.detach(), teacher, generator=torch.Generator().manual_seed(0), images=4)
        return loss

    fresh = FT()
    fresh.restore(prepared.state_dict())
    late = built(FT())
    assert not late.prepared
    with pytest.raises(InputError, match=r"FT needs its paraphraser: call `prepare\(teacher, split\)` first"):
        late(student, teacher)
    late.prepare(Teacher(case.teacher), samples.split(), epochs=1)
    late.double()
    assert torch.equal(built(fresh)(student, teacher), late(student, teacher))


def test_what_cannot_be_prepared_is_named() -> None:
    teacher = Teacher(samples.TEACHER)
    with pytest.raises(InputError, match="is in training mode"):
        FT().prepare(copy.deepcopy(teacher).train(), samples.split(), epochs=1)
    with pytest.raises(InputError, match="`epochs` must be an integer at least 1, got 0"):
        FT().prepare(teacher, samples.split(), epochs=0)
    with pytest.raises(InputError, match='Unknown tap of the teacher network "map9"'):
        FT(taps=["map9"]).prepare(teacher, samples.split(), epochs=1)
    with torch.no_grad():
        teacher.map1.weight.fill_(torch.inf)
    with pytest.raises(RunError, match="The paraphraser of FT did not learn the teacher's map"):
        FT().prepare(teacher, samples.split(), epochs=1)
