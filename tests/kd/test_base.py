"""What every loss rests on: outputs, taps, checks, and how a loss is called."""

import paper_samples as samples
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rolewise.errors import InputError, InputTypeError
from rolewise.kd import KDLoss, Outputs
from rolewise.kd.base import check_teacher, collect, tap_names, tapped
from rolewise.kd.checks import check_pair


class Mean(KDLoss):
    """The squared difference of the mean logits; keeps what it was given."""

    def forward(self, student: Outputs, teacher: Outputs) -> Tensor:
        self.seen = student, teacher
        self.product = student.logits @ student.logits.T
        return (student.logits - teacher.logits).square().mean()


def test_outputs_in_float32() -> None:
    half = samples.cast(samples.outputs(1), torch.bfloat16).float()
    assert {x.dtype for x in samples.leaves(half)} == {torch.float32}
    double = samples.outputs(1).float()
    assert {x.dtype for x in samples.leaves(double)} == {torch.float64}
    labels = torch.tensor([0, 1, 2])
    kept = Outputs(torch.zeros(3, 2), labels=labels, ids=labels + 5)
    for other in (kept.float(), kept.detach()):
        assert torch.equal(other.labels, labels)
        assert torch.equal(other.ids, labels + 5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_loss_is_computed_in_float32_without_autocast(dtype: torch.dtype) -> None:
    loss = Mean()
    student = samples.cast(samples.outputs(1), dtype, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(student, samples.cast(samples.outputs(2), dtype))
    assert value.dtype == loss.product.dtype == torch.float32
    assert {x.dtype for outputs in loss.seen for x in samples.leaves(outputs)} == {torch.float32}
    value.backward()
    assert student.logits.grad.dtype == dtype


def test_no_gradient_reaches_the_teacher() -> None:
    student, teacher = (
        samples.cast(samples.outputs(seed), torch.float64, requires_grad=True) for seed in (1, 2)
    )
    Mean()(student, teacher).backward()
    assert student.logits.grad is not None
    assert teacher.logits.grad is None


def test_a_loss_without_forward_says_so() -> None:
    class Forgotten(KDLoss):
        pass

    with pytest.raises(TypeError, match=r"Forgotten has no `forward\(self, student, teacher\)`"):
        Forgotten()(samples.outputs(1), samples.outputs(2))


def test_defaults() -> None:
    loss = Mean()
    assert (loss.task_weight, loss.weight, loss.decay, loss.clip, loss.needs_features) == (
        1,
        1,
        False,
        False,
        True,
    )
    assert loss.prepared
    assert (loss.taps, loss.teacher_taps) == (None, None)
    assert Mean(["a"]).teacher_taps == ("a",)
    assert Mean(["a"], ["b"]).teacher_taps == ("b",)
    assert isinstance(Mean.paper(taps=["a"]), Mean)
    assert Mean.release(taps=["a"]).taps == ("a",)
    with pytest.raises(
        InputTypeError, match=r'`taps` must be a list of module names, got "abc"; write \["abc"\]'
    ):
        Mean("abc")
    with pytest.raises(InputTypeError, match="`teacher_taps` must be a list of module names"):
        Mean(["a"], "b")


def test_restore() -> None:
    class Scaled(Mean):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(2))

    loss = Scaled()
    loss.restore({"scale": torch.tensor([3.0, 4.0])})
    assert loss.scale.tolist() == [3, 4]
    with pytest.raises(InputError, match="(?s)These tensors do not fit Scaled: .*size mismatch for scale"):
        loss.restore({"scale": torch.ones(3)})
    with pytest.raises(InputError, match='(?s)These tensors do not fit Scaled: .*Unexpected key.*"other"'):
        loss.restore({"scale": torch.ones(2), "other": torch.ones(1)})


# Taps.


def test_collect_sees_what_the_modules_give() -> None:
    network, x = samples.Teacher(), torch.randn(3, 3, 8, 8)
    found = collect(network, x, ("a.1", "c"), "teacher")
    before = F.conv2d(x, network.a[0].weight, network.a[0].bias, stride=2, padding=1)
    torch.testing.assert_close(found.features[0], network.a[1](before))
    torch.testing.assert_close(found.logits, network.head(found.features[1].mean((2, 3))))
    assert all(not module._forward_hooks for module in network.modules())
    assert collect(network, x, ()).features == ()


def test_hooks_are_removed_after_an_error() -> None:
    network = samples.Teacher()
    with pytest.raises(RuntimeError, match="channels"):
        collect(network, torch.randn(1, 1, 8, 8), ("a",))
    assert all(not module._forward_hooks for module in network.modules())


def test_each_pass_replaces_the_last() -> None:
    network = samples.Teacher()
    with tapped(network, ("a",)) as found:
        network(torch.zeros(1, 3, 8, 8))
        first = found[0]
        network(torch.ones(1, 3, 8, 8))
        assert not torch.equal(first, found[0])


def test_tap_names() -> None:
    network = samples.Teacher()
    assert tap_names(network, None) == ("a", "b", "c")
    assert tap_names(network, ["c", "a.0"]) == ("c", "a.0")
    with pytest.raises(
        InputError, match=r'Unknown tap of the student network "hed". Known: .*Did you mean "head"\?'
    ):
        tap_names(network, ["a", "hed"])
    with pytest.raises(
        InputError, match="The teacher network Linear states no `taps`: give the loss the names"
    ):
        tap_names(nn.Linear(1, 1), None, "teacher")


def test_a_tap_that_does_not_fire() -> None:
    class Unused(samples.Teacher):
        def __init__(self) -> None:
            super().__init__()
            self.spare = nn.Linear(1, 1)

    class Pair(samples.Teacher):
        def __init__(self) -> None:
            super().__init__()
            self.two = nn.LSTM(5, 5)

        def forward(self, x: Tensor) -> Tensor:
            self.two(torch.zeros(1, 1, 5))
            return super().forward(x)

    x = torch.zeros(1, 3, 8, 8)
    with pytest.raises(
        InputError, match='The tap "spare" of the student network was not called during the forward'
    ):
        collect(Unused(), x, ("a", "spare"))
    with pytest.raises(InputError, match='The tap "two" of the teacher network gave a tuple, not one tensor'):
        collect(Pair(), x, ("two",), "teacher")


# What cannot be compared.


@pytest.mark.parametrize(
    ("student", "teacher", "words"),
    [
        (samples.outputs(1, n=3), samples.outputs(2, n=4), "must see the same batch: 3 images against 4"),
        (
            samples.outputs(1, classes=4),
            samples.outputs(2, classes=5),
            r"the same classes: logits \(3, 4\) against \(3, 5\)",
        ),
        (
            samples.outputs(1),
            samples.outputs(2, maps=samples.MAPS[:2]),
            "the same number of feature maps: 3 against 2. Check `taps` and `teacher_taps`",
        ),
        (
            Outputs(torch.zeros(2, 3), (torch.zeros(2, 5),)),
            Outputs(torch.zeros(2, 3), (torch.zeros(2, 5, 1, 1),)),
            r"student features\[0\] must have shape \(n, c, h, w\) with n = 2, got \(2, 5\)",
        ),
        (
            Outputs(torch.zeros(2, 3), (torch.zeros(2, 5, 1, 1),)),
            Outputs(torch.zeros(2, 3), (torch.zeros(4, 5, 1, 1),)),
            r"teacher features\[0\] must have shape \(n, c, h, w\) with n = 2, got \(4, 5, 1, 1\)",
        ),
        (
            Outputs(torch.zeros(2)),
            Outputs(torch.zeros(2, 3)),
            r"student logits must have shape \(n, k\), got \(2,\)",
        ),
        (
            Outputs(torch.zeros(2, 3)),
            Outputs(torch.zeros(2, 3, 1)),
            r"teacher logits must have shape \(n, k\), got \(2, 3, 1\)",
        ),
    ],
)
def test_check_pair_names_both_sides(student: Outputs, teacher: Outputs, words: str) -> None:
    with pytest.raises(InputError, match=words):
        check_pair(student, teacher)


def test_check_pair_accepts_other_sizes() -> None:
    check_pair(samples.outputs(1), samples.outputs(2, maps=((9, 1, 1), (2, 7, 7), (1, 2, 3))))


def test_check_teacher() -> None:
    check_teacher(samples.Teacher())
    with pytest.raises(
        InputError, match=r"The teacher network Teacher is in training mode.*Call teacher.eval\(\) first"
    ):
        check_teacher(samples.Teacher().train())
    partly = samples.Teacher()
    partly.b[1].train()
    with pytest.raises(InputError, match=r'The module "b.1" of the teacher network is in training mode'):
        check_teacher(partly)
