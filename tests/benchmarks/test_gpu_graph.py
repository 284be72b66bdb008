"""The capture of a step, with a tape in the graph's place: replaying it is training, to the bit.

Not covered, because no CPU can show it: that CUDA records every operation, and the order between streams.
"""

import sys
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(ROOT / "benchmarks"), str(ROOT / "tests" / "trainer")]

import gpu_graph  # noqa: E402
from gpu_graph import GraphedStep, graphed_trainers  # noqa: E402
from small_training import network, split  # noqa: E402
from tape import Tape  # noqa: E402

import rolewise as rw  # noqa: E402
from rolewise import kd  # noqa: E402
from rolewise.objective import CrossEntropy, Distill, MutualLearning  # noqa: E402
from rolewise.trainer import Trainer, student_settings, teacher_settings, torch_threads  # noqa: E402

KINDS = ("teacher", "fitnet", "mutual")


class Stream:
    """All that is done on it is done at once."""

    def wait_stream(self, other):
        pass


class Graph:
    """A tape; what it records is not taken, as with a graph."""

    replay = property(lambda self: self.tape.replay)


@contextmanager
def recording(graph, stream, capture_error_mode):
    assert capture_error_mode == "thread_local"  # a thread that feeds pins memory meanwhile
    trainer = graph_of.trainer
    before = [tensor.clone() for tensor in everything(trainer)]
    with Tape() as graph.tape:
        yield
    with torch.no_grad():
        for tensor, value in zip(everything(trainer), before, strict=True):
            tensor.copy_(value)


graph_of = SimpleNamespace(trainer=None, recorded=0)


def everything(trainer):
    moments = [m for slot in trainer.optimizer.state.values() for m in slot.values()]
    return [
        *trainer.model.state_dict().values(),
        *trainer.objective.state().values(),
        *moments,
        trainer._sums,
    ]


@pytest.fixture(autouse=True)
def tapes(monkeypatch):
    """CUDA's names mean tapes, for the module under test alone."""
    original = GraphedStep.__init__

    def seen(self, trainer, *arguments, **named):
        graph_of.trainer, graph_of.recorded = trainer, graph_of.recorded + 1
        original(self, trainer, *arguments, **named)

    fake = SimpleNamespace(
        Stream=Stream,
        stream=lambda stream: nullcontext(),
        current_stream=Stream,
        synchronize=lambda: None,
        CUDAGraph=Graph,
        graph=recording,
    )
    monkeypatch.setattr(gpu_graph, "torch", SimpleNamespace(cuda=fake, Tensor=torch.Tensor))
    monkeypatch.setattr(GraphedStep, "__init__", seen)
    graph_of.recorded = 0
    with torch_threads(1):
        yield


def trainer(kind):
    images = split(32)
    numbers = {"batch_size": 8, "precision": "fp32"}
    if kind == "teacher":
        return Trainer(network(0), CrossEntropy(), images, teacher_settings(3, **numbers), seed=1)
    if kind == "mutual":
        return Trainer(network(0), MutualLearning(network(1)), images, student_settings(3, **numbers), seed=1)
    task = Distill(network(1).eval(), kd.LOSSES[kind](), clip=True)
    model = rw.quantize(network(0), 4, 4)
    return Trainer(model, task, images, student_settings(3, **numbers), seed=1, role="student")


def same(one, other):
    ours, expected = one.state().tensors, other.state().tensors
    assert ours.keys() == expected.keys()
    for key, tensor in expected.items():
        assert torch.equal(ours[key], tensor), key


@pytest.mark.parametrize("kind", KINDS)
def test_epochs_and_members_through_one_recording(kind):
    """As a search's worker does it: a fresh state, epochs over a milestone, another member, back to the first one."""
    found = []
    for context in (nullcontext([]), graphed_trainers()):
        one = trainer(kind)
        fresh = one.state()
        with context as reasons:
            losses = [one.train_epoch().loss for _ in range(2)]
            kept = one.state()
            one.set_member(5)
            one.load_state(fresh)
            losses += [one.train_epoch().loss for _ in range(2)]
            one.set_member(None)
            one.load_state(kept)
            losses.append(one.train_epoch().loss)
        assert reasons == []
        found.append((one, losses))
    assert graph_of.recorded == 1
    assert found[0][1] == found[1][1]
    assert len(set(found[0][1])) == 5
    same(found[1][0], found[0][0])


@pytest.mark.parametrize("kind", KINDS)
def test_recording_leaves_the_trainer_as_it_was(kind):
    one, other = trainer(kind), trainer(kind)
    for each in (one, other):
        each.train_epoch()
        each.model.train()
    batch = next(iter(one.feeder.batches(1, None)))
    step = GraphedStep(one, batch)
    same(one, other)
    step(batch)
    other.train_step(batch)
    same(one, other)


def test_a_step_that_cannot_be_recorded_stays_eager(monkeypatch):
    @contextmanager
    def refusing(graph, **_):
        yield
        raise RuntimeError("operation not permitted when stream is capturing\nCUDA error")

    monkeypatch.setattr(gpu_graph.torch.cuda, "graph", refusing)
    one, other = trainer("teacher"), trainer("teacher")
    with graphed_trainers() as reasons:
        one.train_epoch()
    other.train_epoch()
    assert reasons == ["eager: operation not permitted when stream is capturing"]
    torch.testing.assert_close(one.state().tensors, other.state().tensors)
