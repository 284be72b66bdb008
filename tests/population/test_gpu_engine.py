"""The engine for one GPU, on a CPU with steps that nothing records: the bytes of the local engine."""

import copy
import threading

import pytest
import torch
from searches import After, Heard, run_to_the_end, told
from torch import nn

import rolewise as rw
from rolewise import networks
from rolewise.errors import Interrupted, RunError
from rolewise.objective import CrossEntropy, Distill
from rolewise.population import make_plan
from rolewise.population.bank import MemberBank, ResidentRunner
from rolewise.population.engine import InlineEngine, make_engine
from rolewise.population.gpu_engine import GpuEngine, obstacle
from rolewise.population.member import Task
from rolewise.population.runner import HostRunner
from rolewise.settings import SearchSettings
from rolewise.trainer import student_settings, torch_threads
from rolewise.trainer.recorded import NoRecorder

NUMBERS = {"batch_size": 50, "precision": "fp32"}


class Counting(NoRecorder):
    """Records nothing, and counts what it is asked for."""

    def __init__(self):
        self.records, self.steps = 0, 0

    def record(self, step):
        self.records += 1

        def repeat():
            self.steps += 1
            step()

        return repeat


class Refusing(NoRecorder):
    def record(self, step):
        raise RuntimeError("operation not permitted when stream is capturing\nCUDA error")


@pytest.fixture(scope="module")
def data():
    return rw.load_data("digits")


def plan(data, kind="teacher", **numbers):
    model = networks.build("cnn-tiny", num_classes=10)
    objective = CrossEntropy()
    changes = {**NUMBERS, "lr": 0.05}
    if kind == "student":
        objective = Distill(copy.deepcopy(model).eval(), rw.kd.LOSSES["fitnet"](), clip=True)
        model, changes = rw.quantize(model, 4, 4), NUMBERS
    settings = SearchSettings(**{"population": 4, "epochs": 3, "interval": 2, "resample": 0.5, **numbers})
    return make_plan(
        model, data, settings, objective=objective, seed=5, changes=changes, images=(100, 60), prepare=True
    )


def lanes(number, recorder=NoRecorder):
    def start(spec, settings, *, workers, progress):
        return GpuEngine(spec, number, progress, recorder=recorder)

    return start


@pytest.fixture(scope="module", params=["teacher", "student"])
def local(request, data, tmp_path_factory):
    """A plan, and what the local engine gives."""
    one = plan(data, request.param)
    folder = tmp_path_factory.mktemp("local")
    return one, told(
        *_run(one, folder / "run", lambda spec, *_, progress, **__: InlineEngine(spec, progress))
    )


def _run(one, folder, start, **about):
    from searches import run_fake

    return run_fake(one, folder, start=start, **about), folder


@pytest.mark.parametrize("number", [1, 3])
def test_lanes_give_the_bytes_of_the_local_engine(local, tmp_path, number):
    one, expected = local
    counters = []

    def recorder():
        counters.append(Counting())
        return counters[-1]

    progress = Heard()
    result, folder = _run(one, tmp_path / "run", lanes(number, recorder), progress=progress)
    assert told(result, folder) == expected
    assert [counter.records for counter in counters] == [1] * number  # once, for all members
    steps = 4 * 3 * (100 // 50)
    assert sum(counter.steps for counter in counters) == steps + number  # and once to compare
    assert progress.images == result.images == steps * 50
    assert progress.notes == []


def test_what_cannot_be_recorded_is_computed_and_said(data, tmp_path, local):
    one, expected = local
    progress = Heard()
    result, folder = _run(one, tmp_path / "run", lanes(2, Refusing), progress=progress)
    assert progress.notes == [
        "Steps are not recorded, which is slower: operation not permitted when stream is capturing."
    ]
    assert told(result, folder) == expected


def test_interrupted_it_continues_on_either_engine(local, tmp_path):
    """With a checkpoint of resident states, loaded by the local engine and by lanes again."""
    one, expected = local
    stops = [After(3), After(5)]
    result, times = run_to_the_end(one, tmp_path / "lanes", stops, start=lanes(2))
    assert times == 2
    assert told(result, tmp_path / "lanes") == expected
    with pytest.raises(Interrupted):
        _run(one, tmp_path / "mixed", lanes(2), stop=After(4))
    result, folder = _run(one, tmp_path / "mixed", make_engine, workers=1)
    assert told(result, folder) == expected


def test_a_recording_that_lies_is_not_used(data):
    class Lying(NoRecorder):
        def record(self, step):
            return lambda: None

    progress = Heard()
    engine = GpuEngine(plan(data).spec, 1, progress, recorder=Lying)
    engine.close(failed=False)
    assert len(progress.notes) == 1
    assert "the recorded step gives the loss 0 instead of 2." in progress.notes[0]


def test_what_a_job_raises_arrives_and_ends_the_others(data):
    one = plan(data)

    class Bad(Task):
        def execute(self, runner, channel):
            raise RunError("the images are gone")

    with GpuEngine(one.spec, 2, Heard(), recorder=NoRecorder) as engine:
        long = tuple(one.beginnings[0][0] for _ in range(2000))
        jobs = [Task(0, None, long, evaluate=False), Bad(1, None, (), evaluate=False)]
        with pytest.raises(RunError, match="the images are gone"):
            list(engine.run(jobs, lambda: False))
    assert not [thread for thread in threading.enumerate() if thread.name == "rolewise-lane"]


def test_states_are_used_again_once_nothing_refers_to_them(data):
    with torch_threads(1):
        runner = ResidentRunner(plan(data).spec, bank := MemberBank(), recorder=NoRecorder(), feed_threads=1)
        runner.load_member(0, None)
        first = runner.take_state()
        kept = {name: tensor.clone() for name, tensor in first.tensors.items()}
        for _ in range(3):
            runner.trainer.train_epoch()
            second = runner.take_state()
        assert bank.made == 4  # the beginning, the first, and two that took turns
        assert all(torch.equal(first.tensors[name], tensor) for name, tensor in kept.items())
        assert any(not torch.equal(second.tensors[name], tensor) for name, tensor in kept.items())
        del first
        assert bank.made == 4
        runner.take_state()
        assert bank.made == 4


def test_a_member_begins_and_continues_as_in_the_local_engine(data):
    """Moments, buffers and counters included, whoever was there before."""
    spec = plan(data, "student").spec
    with torch_threads(1):
        ours = ResidentRunner(spec, MemberBank(), recorder=NoRecorder(), feed_threads=1)
        theirs = HostRunner(spec)
        states = {}
        for member, times in ((0, 1), (3, 2), (0, 1)):
            for runner in (ours, theirs):
                trainer = runner.load_member(member, states.get((runner, member)))
                for _ in range(times):
                    trainer.train_epoch()
                states[runner, member] = runner.take_state()
            one, other = states[ours, member].host(), states[theirs, member]
            assert one.info == other.info
            assert one.tensors.keys() == other.tensors.keys()
            for name, tensor in other.tensors.items():
                assert torch.equal(one.tensors[name], tensor), name
        last = states[ours, 0]
        assert ours.is_finite(last)
        weights = [
            name for name, tensor in last.tensors.items() if name.startswith("model.") and tensor.dim()
        ]
        last.tensors[weights[-1]].flatten()[-1] = float("inf")
        assert not ours.is_finite(last)


def test_members_whose_networks_change_do_not_stay():
    assert obstacle(student_settings(4)) is None
    assert "ladder" in obstacle(student_settings(4, ladder=(8, 4)))
    assert "level changes" in obstacle(student_settings(4, count_level_changes=True))


class Dropped(nn.Module):
    """A network whose steps draw from torch's own generator, and whose layers draw their weights from it."""

    def __init__(self):
        super().__init__()
        self.conv, self.drop, self.fc = nn.Conv2d(3, 4, 3, 4), nn.Dropout(0.5), nn.Linear(4, 10)

    def forward(self, x):
        return self.fc(self.drop(self.conv(x).relu()).mean((2, 3)))


class Plain(Dropped):
    def __init__(self):
        super().__init__()
        self.drop = nn.Identity()


@pytest.mark.parametrize("network", [Dropped, Plain])
def test_networks_that_draw_random_numbers(data, tmp_path, network):
    """Lanes share torch's generators: with dropout there is one; initial weights are drawn before lanes work."""
    settings = SearchSettings(population=4, epochs=2, interval=1, resample=0.5)
    one = make_plan(network(), data, settings, seed=5, changes={**NUMBERS, "lr": 0.05}, images=(100, 60))
    inline = lambda spec, *_, progress, **__: InlineEngine(spec, progress)  # noqa: E731
    expected = told(*_run(one, tmp_path / "inline", inline))
    progress = Heard()
    before = torch.get_rng_state()
    result, folder = _run(one, tmp_path / "lanes", lanes(3), progress=progress)
    assert told(result, folder) == expected
    assert torch.equal(torch.get_rng_state(), before)
    noted = ["Members are trained one after the other: their steps draw random numbers."]
    assert progress.notes == (noted if network is Dropped else [])
