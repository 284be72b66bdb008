"""`Distill`: gradients against plain autograd, a teacher that stays as it is, lambda and sigmoid over the epochs."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from rolewise import kd
from rolewise.errors import InputError
from rolewise.kd.base import KDLoss
from rolewise.objective import CrossEntropy, Distill, MutualLearning, Placement

CPU = Placement(torch.device("cpu"))


class Net(nn.Module):
    taps = ("one", "two")

    def __init__(self, classes=5):
        super().__init__()
        self.one = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU())
        self.two = nn.Sequential(
            nn.Conv2d(6, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()
        )
        self.fc = nn.Linear(8, classes)

    def forward(self, x):
        return self.fc(self.two(self.one(x)).mean((2, 3)))


class Split:
    def __init__(self, n=16, classes=5):
        generator = torch.Generator().manual_seed(5)
        self.images = torch.randint(0, 256, (n, 8, 8, 3), generator=generator, dtype=torch.uint8)
        self.labels = torch.randint(0, classes, (n,), generator=generator)
        self.mean, self.std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


class MeanSquare(KDLoss):
    """A loss simple enough to differentiate by hand."""

    clip, decay = True, True

    def forward(self, student, teacher):
        pairs = zip(student.features, teacher.features, strict=True)
        return sum(((s - t) ** 2).mean() for s, t in pairs) + ((student.logits - teacher.logits) ** 2).mean()


@pytest.fixture
def pair():
    torch.manual_seed(0)
    return Net(), Net().eval()


@pytest.fixture
def batch():
    split = Split()
    images = (split.images.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.25
    return images, split.labels, torch.arange(16)


def gradients(model):
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def autograd_parts(student, teacher, loss, images, labels):
    """Task and KD gradients by two independent backward passes of plain autograd."""
    student = copy.deepcopy(student).train()
    parts = []
    for which in ("task", "kd"):
        model = copy.deepcopy(student)
        outputs = kd.base.collect(model, images, Net.taps)
        with torch.no_grad():
            taught = kd.base.collect(teacher, images, Net.taps)
        value = F.cross_entropy(outputs.logits, labels) if which == "task" else loss(outputs, taught)
        value.backward()
        parts.append(gradients(model))
    return parts


@pytest.mark.parametrize("epoch", [0, 3])
def test_clipped_gradients_equal_two_separate_backward_passes(pair, batch, epoch):
    student, teacher = pair
    images, labels, ids = batch
    task, extra = autograd_parts(student, teacher, MeanSquare(), images, labels)
    objective = Distill(teacher, MeanSquare(), weight=0.4)
    objective.bind(student, Split(), CPU, seed=0)
    objective.set_epoch(epoch, passed=1)
    student.train()
    objective.backward(student, images, labels, ids)
    sigmoid = torch.sigmoid(torch.tensor(float(epoch), dtype=torch.float64)).item()
    for name, found in gradients(student).items():
        bound = task[name].double().norm() * sigmoid
        shrink = min(1.0, (bound / extra[name].double().norm()).item())
        expected = task[name].double() + 0.4 * 0.5 * shrink * extra[name].double()
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-7)


def test_without_clip_the_gradient_is_that_of_the_weighted_sum(pair, batch):
    student, teacher = pair
    images, labels, ids = batch
    task, extra = autograd_parts(student, teacher, MeanSquare(), images, labels)
    objective = Distill(teacher, MeanSquare(), weight=2.0, task_weight=0.7, clip=False, decay=False)
    objective.bind(student, Split(), CPU, seed=0)
    objective.set_epoch(5, passed=3)
    student.train()
    values = objective.backward(student, images, labels, ids)
    for name, found in gradients(student).items():
        torch.testing.assert_close(found, 0.7 * task[name] + 2.0 * extra[name], rtol=1e-4, atol=1e-6)
    named = dict(zip(objective.metrics, values.tolist(), strict=True))
    assert named["loss"] == pytest.approx(0.7 * named["task"] + 2.0 * named["kd"], rel=1e-5)
    assert named["kd"] > 0
    assert named["kd_dropped"] == 0


def test_the_teacher_is_the_same_to_the_bit_afterwards(pair, batch):
    student, teacher = pair
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    objective = Distill(teacher, kd.IIKD.release())
    objective.bind(student, Split(), Placement(torch.device("cpu"), "bf16", channels_last=True), seed=0)
    student.to(memory_format=torch.channels_last).train()
    for epoch in range(2):
        objective.set_epoch(epoch, 0)
        objective.backward(student, *batch)
    assert not teacher.training
    for name, tensor in teacher.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert all(parameter.grad is None and parameter.requires_grad for parameter in teacher.parameters())


def test_lambda_is_halved_at_each_milestone_and_sigmoid_ends_at_one(pair):
    student, teacher = pair
    objective = Distill(teacher, MeanSquare(), weight=0.4)
    objective.bind(student, Split(), CPU, seed=0)
    found = []
    for epoch, passed in ((0, 0), (60, 1), (120, 2), (180, 3)):
        objective.set_epoch(epoch, passed)
        found.append(round(objective._lambda.item(), 6))
    assert found == [0.4, 0.2, 0.1, 0.05]
    assert objective._sigmoid.item() == 1.0
    objective = Distill(teacher, MeanSquare(), weight=0.4, decay_factor=0.6)
    objective.bind(student, Split(), CPU, seed=0)
    objective.set_epoch(160, 3)
    assert objective._lambda.item() == pytest.approx(0.0864)  # the authors' code


def test_defaults_come_from_the_loss(pair):
    _, teacher = pair
    soft, ii = Distill(teacher, kd.SoftLabels()), Distill(teacher, kd.IIKD())
    assert (soft.task_weight, soft.weight, soft.decay, soft.clip) == (0.7, 0.3, False, False)
    assert (ii.task_weight, ii.weight, ii.decay, ii.clip) == (1.0, 0.4, True, True)


def test_own_parameters_of_a_loss_are_trained_and_saved(pair, batch):
    student, teacher = pair
    objective = Distill(teacher, kd.LOSSES["fitnet"]())
    objective.bind(student, Split(), CPU, seed=0)
    own = objective.parameters()
    assert own
    objective.set_epoch(0, 0)
    student.train()
    objective.backward(student, *batch)
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in own)
    saved = {name: tensor.clone() for name, tensor in objective.state().items()}
    with torch.no_grad():
        own[0].add_(1)
    objective.load_state(saved)
    assert all(torch.equal(tensor, saved[name]) for name, tensor in objective.state().items())


def test_binding_twice_with_a_seed_gives_the_same_loss(pair):
    student, teacher = pair
    objective = Distill(teacher, kd.LOSSES["fitnet"]())
    states = []
    for _ in range(2):
        objective.bind(student, Split(), CPU, seed=3)
        states.append({name: tensor.clone() for name, tensor in objective.state().items()})
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_travels_by_pickle_and_deepcopy(pair):
    student, teacher = pair
    objective = Distill(teacher, kd.RKD(), weight=0.9)
    objective.bind(student, Split(), CPU, seed=0)
    for other in (pickle.loads(pickle.dumps(objective)), copy.deepcopy(objective)):
        assert other.weight == 0.9
        assert not any(name.startswith("_") for name in vars(other))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"weight": -1}, "`weight` must be a finite number of at least 0, got -1"),
        ({"weight": float("nan")}, "`weight` must be a finite number"),
        ({"decay_factor": -0.5}, "`decay_factor` must be a finite number of at least 0, got -0.5"),
        ({"prepare_epochs": 0}, "`prepare_epochs` must be an integer at least 1, got 0"),
        ({"lambda_mode": "pots_clip"}, 'Unknown lambda_mode "pots_clip".*Did you mean "post_clip"'),
    ],
)
def test_bad_arguments(pair, change, words):
    with pytest.raises(InputError, match=words):
        Distill(pair[1], MeanSquare(), **change)


def test_a_teacher_in_training_mode_is_refused(pair):
    with pytest.raises(InputError, match="in training mode.*teacher.eval()"):
        Distill(Net().train(), MeanSquare())
    student, teacher = pair
    objective = Distill(teacher, MeanSquare())
    teacher.train()
    with pytest.raises(InputError, match="in training mode"):
        objective.bind(student, Split(), CPU, seed=0)


def test_unknown_taps_name_the_nearest(pair):
    student, teacher = pair
    with pytest.raises(InputError, match='Unknown tap of the student network "tow".*Did you mean "two"'):
        Distill(teacher, MeanSquare(taps=["tow"])).bind(student, Split(), CPU, seed=0)


def test_cross_entropy_equals_autograd(pair, batch):
    student, _ = pair
    images, labels, ids = batch
    reference = copy.deepcopy(student).train()
    F.cross_entropy(reference(images), labels).backward()
    objective = CrossEntropy()
    objective.bind(student, Split(), CPU, seed=0)
    student.train()
    loss, count = objective.backward(student, images, labels, ids).tolist()
    for name, found in gradients(student).items():
        torch.testing.assert_close(found, dict(reference.named_parameters())[name].grad)
    assert loss > 0
    assert 0 <= count <= len(labels)


def test_mutual_learning_moves_both_and_resumes(pair, batch):
    student, peer = pair
    objective = MutualLearning(peer)
    objective.bind(student, Split(), CPU, seed=0)
    student.train()
    before = {name: tensor.clone() for name, tensor in objective.state().items()}
    first = dict(zip(objective.metrics, objective.backward(student, *batch).tolist(), strict=True))
    assert first["kd"] > 0
    after = objective.state()
    assert any(not torch.equal(after[name], before[name]) for name in before)
    assert all(torch.equal(value, peer.state_dict()[name]) for name, value in peer.state_dict().items())
    saved = {name: tensor.clone() for name, tensor in after.items()}
    continued = objective.backward(student, *batch).tolist()
    other = MutualLearning(peer)
    other.bind(student, Split(), CPU, seed=0)
    other.load_state(saved)
    student.zero_grad()
    resumed = other.backward(student, *batch).tolist()
    assert resumed == continued
    places = {name: tensor.data_ptr() for name, tensor in other.state().items()}
    other.load_state(saved)  # in place, so that a recorded step stays valid
    assert {name: tensor.data_ptr() for name, tensor in other.state().items()} == places
    assert all(torch.equal(other.state()[name], value) for name, value in saved.items())
    other.load_state({name: value for name, value in saved.items() if name.startswith("peer.")})
    assert {name: tensor.data_ptr() for name, tensor in other.state().items()} == places
    assert not any(value.any() for name, value in other.state().items() if name.startswith("optimizer."))


@pytest.mark.parametrize("change", [{"lr": -1e-3}, {"weight_decay": float("nan")}])
def test_bad_numbers_of_a_peers_optimizer(pair, change):
    (name,) = change
    with pytest.raises(InputError, match=f"`{name}` must be a finite number of at least 0"):
        MutualLearning(pair[1], **change)


def test_a_loss_is_prepared_on_the_device_and_comes_back(monkeypatch):
    """There is one device here, so where the networks are sent is watched."""
    events = []

    class Prepared(KDLoss):
        prepared = False

        def prepare(self, teacher, split, *, epochs=40, seed=0):
            events.append(("prepare", epochs))

    task = Distill(Net().eval(), Prepared(), prepare_epochs=3)
    for name, module in (("teacher", task.teacher), ("loss", task.loss)):
        monkeypatch.setattr(module, "to", lambda device, name=name: events.append((name, str(device))))
    task.prepare(Split(), seed=0, device="cuda:1")
    assert events == [("teacher", "cuda:1"), ("prepare", 3), ("teacher", "cpu"), ("loss", "cpu")]
    events.clear()
    task.prepare(Split(), seed=0)
    assert events[0] == ("teacher", "cpu")


@pytest.mark.parametrize("loss", ["at", "nst", "kd-svd"])
def test_gradients_of_maps_have_the_maps_memory_format(loss, batch):
    """Some losses give another one, in which the network's own backward pass takes many times as long on a CPU."""
    torch.manual_seed(0)
    student, teacher = Net(), Net().eval()
    images, labels, ids = batch
    objective = Distill(teacher, kd.LOSSES[loss]())
    place = Placement(torch.device("cpu"), channels_last=True)
    student = place.place(student)
    objective.bind(student, Split(), place, seed=0)
    objective.set_epoch(0, 0)
    arrived = []

    def watch(_module, _inputs, output):
        output.register_hook(lambda g: arrived.append(g.is_contiguous(memory_format=torch.channels_last)))

    student.one.register_forward_hook(watch)
    images = images.to(memory_format=torch.channels_last)
    objective.backward(student, images, labels, ids)
    assert arrived
    assert all(arrived)
