"""What all further losses have in common: seeds, copies and restored objects, errors."""

import copy
import pickle
from dataclasses import replace

import further_samples as samples
import pytest
import torch
from further_samples import CASES

from rolewise.errors import InputError
from rolewise.kd import LOSSES
from rolewise.kd.base import KDLoss

NAMES = sorted(CASES)
FEATURES = [name for name in NAMES if LOSSES[name].needs_features]


@pytest.mark.parametrize("name", NAMES)
def test_build_and_prepare_draw_from_their_seeds_alone(name: str) -> None:
    torch.manual_seed(11)
    before = torch.get_rng_state()
    first, second = samples.made(name, CASES[name]), samples.made(name, CASES[name])
    assert torch.equal(torch.get_rng_state(), before)
    assert same_state(first, second)
    other = samples.made(name, CASES[name], seed=1)
    drawn = dict(first.named_parameters())
    assert all(not torch.equal(p, drawn[k]) for k, p in other.named_parameters())


def same_state(a: KDLoss, b: KDLoss) -> bool:
    """Whether two losses hold the same tensors, bit by bit."""
    x, y = a.state_dict(), b.state_dict()
    return x.keys() == y.keys() and all(torch.equal(x[k], y[k]) for k in x)


@pytest.mark.parametrize("name", NAMES)
def test_copies_and_restored_objects_go_on_alike(name: str) -> None:
    case = CASES[name]
    loss = samples.made(name, case)
    student, teacher = samples.pair(case)
    loss(student, teacher)  # some keep something of it
    fresh = samples.made(name, case, seed=7)
    fresh.load_state_dict(loss.state_dict())
    blank = LOSSES[name](**case.arguments)  # not prepared: the state brings that
    blank.build(student.detach(), teacher, generator=torch.Generator().manual_seed(3), images=samples.IMAGES)
    blank.restore(loss.state_dict())
    others = [copy.deepcopy(loss), pickle.loads(pickle.dumps(loss)), fresh, blank]
    assert all(other.prepared and same_state(loss, other) for other in others)
    for _ in range(2):
        expected = loss(student, teacher)
        for other in others:
            assert torch.equal(other(student, teacher), expected)
    assert all(same_state(loss, other) for other in others)


@pytest.mark.parametrize("name", NAMES)
def test_it_can_be_built_again(name: str) -> None:
    case = CASES[name]
    loss = samples.made(name, case)
    student, teacher = samples.outputs(case.student, 5, n=2), samples.outputs(case.teacher, 6, n=2)
    count = sum(p.numel() for p in loss.parameters())
    loss.build(student, teacher, generator=torch.Generator().manual_seed(9), images=samples.IMAGES)
    assert sum(p.numel() for p in loss.parameters()) == count
    assert torch.isfinite(loss(*samples.pair(case)))


@pytest.mark.parametrize("name", NAMES)
def test_the_teacher_takes_no_gradient(name: str) -> None:
    case = CASES[name]
    student, teacher = samples.pair(case)
    for leaf in (teacher.logits, *teacher.features):
        leaf.requires_grad_(True)
    samples.made(name, case)(student, teacher).backward()
    assert teacher.logits.grad is None
    assert all(f.grad is None for f in teacher.features)


@pytest.mark.parametrize("name", NAMES)
def test_two_sides_that_do_not_fit_are_named(name: str) -> None:
    case = CASES[name]
    loss = samples.made(name, case)
    student, teacher = samples.pair(case)
    small = samples.outputs(case.teacher, 2, n=3)
    with pytest.raises(InputError, match="student and teacher must see the same batch: 4 images against 3"):
        loss(student, small)
    narrow = replace(teacher, logits=teacher.logits[:, :3])
    with pytest.raises(InputError, match=r"must have the same classes: logits \(4, 5\) against \(4, 3\)"):
        loss(student, narrow)
    if name not in FEATURES:
        return
    with pytest.raises(InputError, match="the same number of feature maps: 2 against 1"):
        loss(student, replace(teacher, features=teacher.features[:1]))
    flat = replace(teacher, features=(teacher.features[0], teacher.features[1].flatten(1)))
    with pytest.raises(InputError, match=r"teacher features\[1\] must have shape \(n, c, h, w\)"):
        loss(student, flat)


@pytest.mark.parametrize("name", FEATURES)
def test_missing_features_are_named(name: str) -> None:
    loss = samples.made(name, CASES[name])
    student, teacher = (replace(x, features=()) for x in samples.pair(CASES[name]))
    with pytest.raises(
        InputError, match=r"needs at least \d feature maps? of each network, got 0. Name the layers"
    ):
        loss(student, teacher)


BUILT = [name for name in FEATURES if list(samples.made(name, CASES[name]).parameters())]


def test_these_have_parts_of_their_own() -> None:
    assert BUILT == ["ab", "cc", "crd", "fitnet", "ft", "ofd", "reviewkd", "vid"]


@pytest.mark.parametrize("name", BUILT)
def test_a_missing_or_another_build_is_named(name: str) -> None:
    case = CASES[name]
    student, teacher = samples.pair(case)
    loss = LOSSES[name](**case.arguments)
    if not loss.prepared:
        loss.prepare(samples.Teacher(case.teacher), samples.split(), epochs=1)
    with pytest.raises(InputError, match=r"call `build\(student, teacher, ...\)` first \(`Distill` does\)"):
        loss(student, teacher)
    wide = replace(student, features=(student.features[0], torch.ones(4, 7, 2, 2)))
    built = samples.made(name, case)
    message = (
        "was built for student maps of 3x4x4, 4x2x2 and teacher maps of 4x4x4, 5x2x2, "
        "got student maps of 3x4x4, 7x2x2"
    )
    with pytest.raises(InputError, match=message):
        built(wide, teacher)
