"""Contrastive representation distillation."""

import copy
from dataclasses import replace

import further_samples as samples
import kd_contrast
import pytest
import torch
from further_samples import CASES, Outputs

from rolewise.errors import InputError
from rolewise.kd.crd import CRD, _uniform


def batches(count: int, *, images: int = 9, n: int = 4) -> list[tuple[Outputs, Outputs]]:
    """Batches of a training set of `images` images whose ids are far from 0."""
    generator = torch.Generator().manual_seed(8)
    found = []
    for index in range(count):
        chosen = torch.randperm(images, generator=generator)[:n]
        ids, labels = 1000 + 37 * chosen, chosen % 3
        student, teacher = (
            replace(samples.outputs(shapes, 10 * index + side, n=n), ids=ids, labels=labels)
            for side, shapes in enumerate((samples.STUDENT, samples.TEACHER))
        )
        found.append((student, teacher))
    return found


def test_steps_follow_the_equations_and_the_memory() -> None:
    loss = samples.made("crd", CASES["crd"])
    memory = samples.contrast(loss)
    for student, teacher in batches(6):
        expected = memory(
            samples.embed(student.features[-1], loss.student_embedding),
            samples.embed(teacher.features[-1], loss.teacher_embedding),
            student.ids.tolist(),
            student.labels.tolist(),
        )
        samples.assert_same(loss(student, teacher).detach(), expected.detach())
        for bank, rows in zip((loss.student_rows, loss.teacher_rows), memory.banks, strict=True):
            samples.assert_same(bank, torch.tensor([[float(v) for v in row] for row in rows]).double())
    assert len(memory.row_of) > 4
    assert loss.step == 6


def test_the_counter_gives_splitmix64() -> None:
    seed, step = 2**61 + 12345, 7
    found = _uniform(torch.tensor(seed), torch.tensor(step), 3, 5)
    mask = (1 << 64) - 1
    for row in range(3):
        for column in range(5):
            inner = kd_contrast.mix((kd_contrast.mix(seed + step) + row) & mask)
            assert int(found[row, column]) == kd_contrast.mix((inner + column) & mask) >> 33
    # Steele, Lea & Flood's generator with state 0 begins with this number.
    assert kd_contrast.mix(0) == 0xE220A8397B1DCDAF


def test_draws_are_uniform_over_the_other_classes_seen() -> None:
    loss = CRD(size=2, negatives=6000)
    shapes = ((2, 1, 1),)
    student = replace(
        samples.outputs(shapes, 1), ids=torch.tensor([3, 5, 7, 9]), labels=torch.tensor([0, 1, 1, 2])
    )
    loss.build(student, student, generator=torch.Generator().manual_seed(0), images=6001)
    rows = loss._rows(student.ids, student.labels)
    drawn, exist = loss._draw(rows)
    assert drawn.shape == (4, 6000)
    assert exist.all()
    for own, others in enumerate(([1, 2, 3], [0, 3], [0, 3], [0, 1, 2])):
        counts = torch.bincount(drawn[own], minlength=4)
        assert counts.sum() == counts[others].sum() == 6000
        spread = (6000 / len(others) * (1 - 1 / len(others))) ** 0.5
        assert (counts[others] - 6000 / len(others)).abs().max() < 4 * spread
    assert not torch.equal(drawn[1], drawn[2])
    loss.step += 1
    assert not torch.equal(loss._draw(rows)[0], drawn)


def test_without_labels_only_the_image_itself_is_spared() -> None:
    loss = samples.made("crd", CASES["crd"])
    student, teacher = (replace(x, labels=None) for x in samples.pair(CASES["crd"]))
    numbered = samples.made("crd", CASES["crd"])
    assert torch.equal(
        loss(student, teacher),
        numbered(replace(student, labels=student.ids), replace(teacher, labels=teacher.ids)),
    )


def test_a_batch_of_one_class_has_no_negatives_yet() -> None:
    loss = samples.made("crd", CASES["crd"], dtype=torch.float32)
    student, teacher = (
        replace(x, labels=torch.ones_like(x.labels)) for x in samples.pair(CASES["crd"], dtype=torch.float32)
    )
    value = loss(student, teacher)
    value.backward()
    assert torch.isfinite(value)
    assert all(torch.isfinite(g).all() for g in samples.gradients(loss, student).values())
    assert torch.isfinite(loss(student, teacher))


def test_a_resumed_training_draws_the_same() -> None:
    steps = batches(5)
    loss = samples.made("crd", CASES["crd"])
    for pair in steps[:3]:
        loss(*pair)
    resumed = samples.made("crd", CASES["crd"], seed=5)
    resumed.load_state_dict(loss.state_dict())
    straight = [loss(*pair) for pair in steps[3:]]
    assert straight == [resumed(*pair) for pair in steps[3:]]
    assert all(
        torch.equal(a, b)
        for a, b in zip(loss.state_dict().values(), resumed.state_dict().values(), strict=True)
    )


def test_evaluation_remembers_nothing() -> None:
    loss = samples.made("crd", CASES["crd"])
    pairs = batches(2)
    loss(*pairs[0])
    before = copy.deepcopy((loss.student_rows, loss.teacher_rows, loss.step, loss.log_mean))
    loss.eval()
    value = loss(*pairs[1])
    assert all(
        torch.equal(a, b)
        for a, b in zip(before, (loss.student_rows, loss.teacher_rows, loss.step, loss.log_mean), strict=True)
    )
    assert loss(*pairs[1]) == value


def test_rows_are_given_in_the_order_of_first_sight() -> None:
    loss = samples.made("crd", CASES["crd"])
    one, two = torch.tensor([70, 10, 2**60]), torch.tensor([10, 0, 70])
    assert loss._rows(one, torch.tensor([0, 1, 2])).tolist() == [0, 1, 2]
    assert loss._rows(two, torch.tensor([1, 5, 0])).tolist() == [1, 3, 0]
    assert loss.row_ids[:4].tolist() == [0, 10, 70, 2**60]
    assert loss.row_classes.tolist() == [0, 1, 2, 5, -1, -1, -1, -1, -1]


def test_more_images_than_were_announced_share_rows() -> None:
    loss = samples.made("crd", CASES["crd"])
    for pair in batches(8, images=40):
        assert torch.isfinite(loss(*pair))


def test_learning_reduces_it() -> None:
    case = replace(CASES["crd"], arguments={"size": 8, "negatives": 4})
    loss = samples.made("crd", case)
    student, teacher = samples.pair(case)
    optimizer = torch.optim.Adam([*student.features, *loss.parameters()], 0.02)
    values = []
    for _ in range(250):
        optimizer.zero_grad()
        value = loss(student, teacher)
        value.backward()
        optimizer.step()
        values.append(float(value.detach()))
    assert values[-1] < 0.25 * min(values[:10])


def test_fewer_negatives_than_images() -> None:
    loss = CRD(size=2)
    student, teacher = samples.outputs(samples.STUDENT, 1), samples.outputs(samples.TEACHER, 2)
    loss.build(student, teacher, generator=torch.Generator(), images=50)
    rows = loss._rows(student.ids, student.labels)
    assert loss._draw(rows)[0].shape == (4, 49)


def test_what_is_missing_is_named() -> None:
    loss = samples.made("crd", CASES["crd"])
    student, teacher = (replace(x, ids=None) for x in samples.pair(CASES["crd"]))
    with pytest.raises(InputError, match=r"CRD needs the images' numbers: give Outputs\(..., ids=...\)"):
        loss(student, teacher)
    with pytest.raises(InputError, match="`images` must be an integer at least 2, got 1"):
        loss.build(student, teacher, generator=torch.Generator(), images=1)
    for momentum in (1.0, -0.1, float("nan")):
        with pytest.raises(InputError, match=f"`momentum` must be at least 0 and below 1, got {momentum}"):
            CRD(momentum=momentum)
    assert CRD(momentum=0).momentum == 0
