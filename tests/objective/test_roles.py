"""What an objective states: the role of its network, how a search begins, and what of it can be copied."""

import copy
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import rolewise as rw
from rolewise import kd, networks
from rolewise.errors import InputError, Interrupted
from rolewise.objective import CrossEntropy, Distill, MutualLearning, Objective, Placement
from rolewise.population import make_plan
from rolewise.settings import SearchSettings


@pytest.fixture(scope="module")
def data():
    return rw.load_data("digits")


def network(bits=32):
    model = networks.build("cnn-tiny", num_classes=10)
    return model if bits == 32 else rw.quantize(model, bits, bits)


def objective(name):
    if name == "distill":
        return Distill(network().eval(), kd.SoftLabels())
    return MutualLearning(network()) if name == "mutual" else CrossEntropy()


@pytest.mark.parametrize(
    ("name", "bits", "role", "init"),
    [
        ("cross-entropy", 32, "teacher", "random"),
        ("cross-entropy", 4, "student", "random"),
        ("distill", 32, "student", "given"),
        ("distill", 4, "student", "given"),
        ("mutual", 32, "student", "random"),
        ("mutual", 4, "student", "random"),
    ],
)
def test_search_and_train_take_the_same_role(data, monkeypatch, name, bits, role, init):
    plan = make_plan(network(bits), data, SearchSettings(epochs=3), objective=objective(name))
    assert (plan.spec.role, plan.spec.init) == (role, init)
    optimizer = "adam" if role == "student" else "sgd"
    assert plan.spec.settings.optimizer == optimizer

    def stop(trainer, *arguments, **named):
        seen.append((trainer.role, trainer.settings.optimizer))
        raise Interrupted

    seen: list = []
    monkeypatch.setattr(sys.modules["rolewise.trainer.fit"], "fit", stop)
    with pytest.raises(Interrupted):
        rw.train(network(bits), data, objective=objective(name), epochs=3)
    assert seen == [(role, optimizer)]


class Halved(Objective):
    """One of a user's own, with a private number, which every copy needs."""

    init = "given"

    def __init__(self):
        self._factor = 0.5

    def bind(self, model, split, placement, *, seed):
        pass

    def backward(self, model, images, labels, ids):
        logits = model(images)
        loss = self._factor * F.cross_entropy(logits, labels)
        loss.backward()
        return torch.stack((loss.detach(), (logits.argmax(1) == labels).sum().float()))


def test_an_own_objective(data):
    assert Halved().role_of(network()) == "teacher"
    schedule = rw.search(
        network(),
        data,
        objective=Halved(),
        population=4,
        epochs=1,
        interval=1,
        workers=1,
        train_images=100,
        validation_images=50,
        batch_size=50,
        precision="fp32",
    )
    assert schedule.provenance["init"] == "given"


def test_bind_and_backward_are_required():
    class Nothing(Objective):
        pass

    with pytest.raises(TypeError, match="backward.*bind"):
        Nothing()


@pytest.mark.parametrize("name", ["cross-entropy", "distill", "mutual"])
def test_what_bind_makes_stays_behind(data, name):
    """All of it is listed, and a copy is as before `bind`."""
    one = objective(name)
    before = set(vars(one))
    one.bind(network(), data.train, Placement(torch.device("cpu")), seed=0)
    assert set(vars(one)) - before == set(one.made_by_bind)
    assert set(vars(copy.deepcopy(one))) == before


@pytest.mark.parametrize("function", ["train", "search"])
def test_what_is_no_objective_is_refused(data, function):
    with pytest.raises(InputError, match="`objective` must be an objective such as CrossEntropy.*got ReLU"):
        getattr(rw, function)(network(), data, objective=nn.ReLU(), epochs=3)
