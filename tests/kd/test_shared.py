"""What holds for all losses of `LOSSES`, and for a loss from your own file."""

import copy
import inspect
import math
import pickle
import subprocess
import sys
from pathlib import Path

import paper_samples as samples
import pytest
import torch
from torch import Tensor, nn

from rolewise import kd
from rolewise.errors import InputError, InputTypeError
from rolewise.kd import LOSSES, KDLoss, Outputs, load_loss
from rolewise.kd.base import collect
from rolewise.seeds import torch_generator

ROOT = Path(__file__).resolve().parents[2]
# How each loss is used by default: factors of the task loss and of the loss, whether lambda decays, whether the
# gradient is clipped. The paper's six stand first (Fu et al., 2020, section 5.1, and their released code); the others
# have the weights of their authors or of Tian et al. (ICLR 2020).
USE = {
    "soft": (0.7, 0.3, False, False),
    "dml": (1, 1, True, False),
    "rkd": (1, 1, True, False),
    "mhgd": (1, 1, True, True),
    "kd-svd": (1, 1, True, True),
    "ii-kd": (1, 0.4, True, True),
    "at": (1, 1000, False, False),
    "fitnet": (1, 100, False, False),
    "sp": (1, 3000, False, False),
    "cc": (1, 100, False, False),
    "pkt": (1, 30000, False, False),
    "vid": (1, 1, False, False),
    "nst": (1, 50, False, False),
    "ft": (1, 500, False, False),
    "ab": (1, 1, False, False),
    "fsp": (1, 50, False, False),
    "crd": (1, 0.8, False, False),
    "dkd": (1, 1, False, False),
    "dist": (1, 2, False, False),
    "reviewkd": (1, 1, False, False),
    "ofd": (1, 1e-3, False, False),
    "logit-std": (1, 9, False, False),
}
NAMES = tuple(USE)
THROUGH_LAYERS = {"fitnet", "cc", "vid", "ft", "ab", "crd", "reviewkd", "ofd"}


def test_the_names_in_order() -> None:
    assert tuple(LOSSES) == NAMES
    assert "soft" in LOSSES
    assert "ce" not in LOSSES
    classes = [LOSSES[name] for name in LOSSES]
    assert len(set(classes)) == len(NAMES)
    assert all(getattr(kd, one.__name__) is one for one in classes)
    assert all(one.__name__ in dir(kd) for one in classes)
    assert not {"Any", "importlib", "find_own_code"} & set(dir(kd))
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = kd.Nothing


def test_import_is_lean() -> None:
    """Importing `rolewise.kd` imports no loss, and nothing heavy but torch."""
    code = (
        "import sys, rolewise.kd; "
        "print(sorted(m for m in sys.modules if m.startswith('rolewise.kd.'))); "
        "print([m for m in ('numba', 'PIL', 'pydantic', 'matplotlib', 'yaml', 'safetensors') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == ["['rolewise.kd.base', 'rolewise.kd.kept']", "[]"]


@pytest.mark.parametrize("name", NAMES)
def test_is_documented_and_tested(name: str) -> None:
    loss = LOSSES[name]
    text = inspect.getdoc(loss)
    for part in ("Source:", "Shape:"):
        assert part in text, part
    module = loss.__module__.rpartition(".")[2]
    assert (ROOT / "tests" / "kd" / f"test_{module}.py").is_file()
    row = f"| `{name}` | `{loss.__name__}` |"
    assert row in (ROOT / "docs" / "losses.md").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_states_how_it_is_used(name: str) -> None:
    loss = LOSSES[name]()
    expected = USE[name]
    assert (loss.task_weight, loss.weight, loss.decay, loss.clip) == expected
    assert loss.weight > 0
    assert (LOSSES[name].task_weight, LOSSES[name].weight) == expected[:2]  # the class states them
    for variant in (loss, LOSSES[name].paper(), LOSSES[name].release()):
        assert type(variant) is LOSSES[name]
    assert LOSSES[name](taps=["x"], teacher_taps=["y"]).teacher_taps == ("y",)


class Network(samples.Teacher):
    """Two networks of this class differ in their weights alone."""

    def __init__(self, seed: int) -> None:
        super().__init__((8, 8, 12))
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.normal_(std=0.3, generator=torch.Generator().manual_seed(seed))


def ready(name: str) -> tuple[KDLoss, Outputs, Outputs]:
    """The loss as `Distill` uses it: prepared and built; and a batch of both networks."""
    split = samples.images(6, size=32)
    x = split.images.permute(0, 3, 1, 2).float() / 128 - 1
    loss, teacher = LOSSES[name](), Network(2)
    labels, ids = split.labels, torch.arange(6)
    student = collect(Network(1).train(), x, ("a", "b", "c"))
    fixed = collect(teacher, x, ("a", "b", "c"), "teacher").detach()
    student = Outputs(student.logits, student.features, labels, ids)
    fixed = Outputs(fixed.logits, fixed.features, labels, ids)
    if not loss.prepared:
        loss.prepare(teacher, split, epochs=1, seed=0)
    loss.build(student.detach(), fixed, generator=torch_generator(0, "build"), images=6)
    return loss, student.detach(), fixed


def value(loss: KDLoss, student: Outputs, teacher: Outputs) -> float:
    """The loss of a batch, by a copy: some losses remember what they saw."""
    return float(copy.deepcopy(loss)(student, teacher).detach())


@pytest.mark.parametrize("name", NAMES)
def test_trains_a_student(name: str) -> None:
    """A scalar above zero, finite gradients that are not zero, none for the teacher."""
    loss, student, teacher = ready(name)
    student = samples.cast(student, torch.float32, requires_grad=True)
    teacher = samples.cast(teacher, torch.float32, requires_grad=True)
    result = loss(student, teacher)
    assert result.shape == ()
    assert result.dtype == torch.float32
    assert float(result.detach()) > 0
    result.backward()
    found = [x.grad for x in samples.leaves(student) if x.grad is not None]
    assert sum(float(g.abs().sum()) for g in found) > 0
    assert all(bool(g.isfinite().all()) for g in found)
    assert all(x.grad is None for x in samples.leaves(teacher))
    if not loss.needs_features:
        assert student.logits.grad is not None
        assert (
            value(loss, Outputs(student.logits, (), student.labels, student.ids), teacher_without(teacher))
            > 0
        )


def teacher_without(x: Outputs) -> Outputs:
    return Outputs(x.logits, (), x.labels, x.ids)


@pytest.mark.parametrize("name", NAMES)
def test_travels(name: str) -> None:
    loss, student, teacher = ready(name)
    expected = value(loss, student, teacher)
    arrived = pickle.loads(pickle.dumps(loss))
    assert value(arrived, student, teacher) == expected
    assert value(copy.deepcopy(loss), student, teacher) == expected
    assert {n: x.shape for n, x in arrived.state_dict().items()} == {
        n: x.shape for n, x in loss.state_dict().items()
    }
    loss.restore(arrived.state_dict())
    assert value(loss, student, teacher) == expected


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", NAMES)
def test_half_precision_under_autocast(name: str, dtype: torch.dtype) -> None:
    loss, student, teacher = ready(name)
    student, teacher = samples.cast(student, dtype), samples.cast(teacher, dtype)
    expected = value(loss, student.float(), teacher.float())
    with torch.autocast("cpu", torch.bfloat16):
        assert value(loss, student, teacher) == expected


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_of_two(name: str) -> None:
    loss, student, teacher = ready(name)
    two = [
        Outputs(x.logits[:2], tuple(f[:2] for f in x.features), x.labels[:2], x.ids[:2])
        for x in (student, teacher)
    ]
    leaf = samples.cast(two[0], torch.float32, requires_grad=True)
    result = loss(leaf, two[1])
    result.backward()
    assert bool(result.isfinite())
    assert all(bool(x.grad.isfinite().all()) for x in samples.leaves(leaf) if x.grad is not None)


@pytest.mark.parametrize("name", NAMES)
def test_least_where_the_student_is_the_teacher(name: str) -> None:
    """Of the losses that look at the outputs directly, not through layers of their own."""
    loss, student, teacher = ready(name)
    assert bool(list(loss.parameters())) == (name in THROUGH_LAYERS)
    at_teacher = value(loss, teacher, teacher)
    assert math.isfinite(at_teacher)
    if name not in THROUGH_LAYERS:
        assert abs(at_teacher) < 1e-6 * LOSSES[name].weight * value(loss, student, teacher) + 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_refuses_what_does_not_match(name: str) -> None:
    loss, student, teacher = ready(name)
    with pytest.raises(InputError, match="5 images against 6"):
        loss(
            Outputs(
                student.logits[:5],
                tuple(f[:5] for f in student.features),
                student.labels[:5],
                student.ids[:5],
            ),
            teacher,
        )
    other = Outputs(student.logits[:, :3], student.features, student.labels, student.ids)
    with pytest.raises(InputError, match=r"logits \(6, 3\) against \(6, 4\)"):
        loss(other, teacher)
    if loss.needs_features:
        fewer = Outputs(student.logits, student.features[:2], student.labels, student.ids)
        with pytest.raises(InputError, match="2 against 3"):
            loss(fewer, teacher)
        flat = Outputs(
            student.logits, tuple(f.mean((2, 3)) for f in student.features), student.labels, student.ids
        )
        with pytest.raises(InputError, match=r"student features\[0\] must have shape \(n, c, h, w\)"):
            loss(flat, teacher)


@pytest.mark.parametrize("name", [name for name in NAMES if not LOSSES[name]().needs_features])
def test_features_that_are_not_read_may_be_any(name: str) -> None:
    """Tokens (n, t, c) of a transformer, and other numbers of them, beside the logits."""
    loss, student, teacher = ready(name)
    tokens = (torch.randn(6, 9, 16),)
    other = Outputs(teacher.logits, (*tokens, *tokens), teacher.labels, teacher.ids)
    found = loss(Outputs(student.logits, tokens, student.labels, student.ids), other)
    assert torch.equal(found, loss(student, teacher))


# A loss of your own.

OWN = """
import torch
from rolewise.kd import KDLoss, Outputs

class Mine(KDLoss):
    weight = 2.5

    def __init__(self, taps=None, teacher_taps=None, *, power=2.0):
        super().__init__(taps, teacher_taps)
        self.power = power
        self.scale = torch.nn.Parameter(torch.tensor(3.0))

    def forward(self, student, teacher):
        return self.scale * (student.logits - teacher.logits).abs().pow(self.power).mean()

class NotALoss:
    pass
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "my_losses.py"
    path.write_text(OWN)
    return path


def test_load_by_name() -> None:
    loss = load_loss("soft", temperature=4.0)
    assert isinstance(loss, kd.SoftLabels)
    assert loss.temperature == 4
    assert load_loss("ii-kd", variant="release").prepared
    with pytest.raises(
        InputError, match=r'Unknown KD loss "rdk". Known: "soft", .*Did you mean "rkd"\?.*FILE.py:Class'
    ):
        load_loss("rdk")
    with pytest.raises(InputTypeError, match='"soft" cannot be made with these settings: .*heat'):
        load_loss("soft", heat=4.0)
    for name, arguments in (("rkd", {"distance_weight": "far"}), ("vid", {"variance": "much"})):
        with pytest.raises(InputTypeError, match=f'"{name}" cannot be made with these settings: '):
            load_loss(name, **arguments)
    with pytest.raises(
        InputError, match='Unknown variant of a KD loss "old".*"recommended", "paper", "release"'
    ):
        load_loss("soft", variant="old")


def test_load_from_a_file(own: Path) -> None:
    loss = load_loss(f"{own}:Mine", power=1.0)
    assert isinstance(loss, KDLoss)
    assert (type(loss).__name__, loss.weight, loss.power) == ("Mine", 2.5, 1)
    x, y = samples.outputs(1), samples.outputs(2)
    assert float(loss(x, y).detach()) == pytest.approx(3 * float((x.logits - y.logits).abs().mean()))
    assert type(load_loss(f"{own}:Mine")) is type(loss)  # the file is run once
    with torch.no_grad():
        loss.scale.fill_(5)
    for other in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert type(other) is type(loss)
        assert (float(other.scale.detach()), other.power) == (5, 1)
        assert other.scale is not loss.scale


def test_an_own_loss_reaches_another_process(own: Path, tmp_path: Path) -> None:
    loss = load_loss(f"{own}:Mine", power=1.0)
    (tmp_path / "loss.bin").write_bytes(pickle.dumps(loss))
    code = (
        "import pickle, pathlib; "
        f"loss = pickle.loads(pathlib.Path({str(tmp_path / 'loss.bin')!r}).read_bytes()); "
        "print(type(loss).__name__, loss.power, loss.weight, float(loss.scale.detach()))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["Mine", "1.0", "2.5", "3.0"]


def test_bad_files(own: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match='There is no file ".*nowhere.py"'):
        load_loss(f"{tmp_path / 'nowhere.py'}:Mine")
    with pytest.raises(
        InputError, match=r'In ".*my_losses.py": Unknown class "Mein". Known: "Mine", "NotALoss"'
    ):
        load_loss(f"{own}:Mein")
    with pytest.raises(InputTypeError, match=r'"NotALoss" in ".*" must be a subclass of rolewise.kd.KDLoss'):
        load_loss(f"{own}:NotALoss")
    for spec in (str(own), f"{own}:", "my_losses:Mine"):
        with pytest.raises(InputError, match='A loss of your own is given as "FILE.py:Class", got'):
            load_loss(spec)
    broken = tmp_path / "broken.py"
    broken.write_text("1 / 0")
    for _ in range(2):  # a file that failed is run again
        with pytest.raises(InputError, match=r"broken.py, line 1, in <module> \(.*\): ZeroDivisionError"):
            load_loss(f"{broken}:Mine")


def test_networks_stay_as_they_are() -> None:
    """Collecting and comparing leaves a teacher's parameters and buffers untouched, to the bit."""
    teacher = Network(2)
    before = {name: x.clone() for name, x in teacher.state_dict().items()}
    split = samples.images(6, size=32)
    x = split.images.permute(0, 3, 1, 2).float() / 128 - 1
    loss = kd.IIKD()
    loss.prepare(teacher, split, epochs=1, seed=0)
    student = collect(Network(1).train(), x, ("a", "b", "c"))
    loss(student, collect(teacher, x, ("a", "b", "c"), "teacher")).backward()
    assert all(torch.equal(y, before[name]) for name, y in teacher.state_dict().items())
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert isinstance(teacher, nn.Module)
    assert isinstance(student.logits, Tensor)
