"""All that a search does with its members on one CUDA device; a JSON line for each loss and network.

    python members.py ii-kd/resnet8-small/4 ...

A process of its own, because the device that it registers stays.
"""

import json
import sys
import traceback

import fake_cuda  # before anything asks for CUDA
import torch
from cases import BATCH, CLASSES, objective, split

import rolewise as rw
from rolewise import networks
from rolewise.augment import Schedule
from rolewise.data import Data
from rolewise.population import make_plan
from rolewise.population.bank import MemberBank, ResidentRunner
from rolewise.population.engine import make_engine
from rolewise.population.gpu_engine import GpuEngine
from rolewise.population.member import Task
from rolewise.population.runner import HostRunner
from rolewise.progress import Progress
from rolewise.settings import SearchSettings


class Notes(Progress):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


def plan(loss, network, bits):
    images = split()
    model, teacher = (networks.build(network, num_classes=CLASSES) for _ in range(2))
    if bits < 32:
        rw.quantize(model, bits, bits)
    data = Data("noise", images.subset(torch.arange(len(images)).repeat(2)), lambda: images, sizes=(1, 1))
    return make_plan(
        model,
        data,
        SearchSettings(population=4, epochs=2, interval=1),
        objective=objective(loss, teacher, prepared=True),
        changes={"batch_size": BATCH, "device": "cuda"},
        images=(2 * BATCH, 2 * BATCH),
        prepare=True,
    )


def swaps(watch, one):
    """Two members in turn through one trainer, an exploit, a checkpoint."""
    bank = MemberBank()
    runner = ResidentRunner(one.spec, bank, recorder=None, feed_threads=1)
    policy = Schedule.random(1, seed=3)[0]
    states = []
    for member in (0, 1):
        with watch.phase("beginning"):
            trainer = runner.load_member(member, None)
        trainer.train_epoch(policy)
        with watch.phase("swap"):
            states.append(runner.take_state())
    with watch.phase("swap"):
        trainer = runner.load_member(0, states[1])  # the exploit
    batch = next(trainer.feeder.batches(1, policy))
    with watch.phase("step"):
        (trainer.recorded or trainer.train_step)(batch)
    with watch.phase("evaluation"):
        trainer.evaluate(runner.validation)
    with watch.phase("finite"):
        runner.is_finite(states[0])
    held = {tensor.device.type for state in states for tensor in state.tensors.values()}
    held |= {runner.validation.images.device.type, runner.validation.labels.device.type}
    with watch.phase("checkpoint"):
        saved = states[0].host()
    resumed = {tensor.device.type for tensor in saved.tensors.values()}
    with watch.phase("resume"):
        runner.load_member(0, saved)
    return {"held": sorted(held), "saved": sorted(resumed), "eager": runner.eager_because}


def engine(one):
    """A round of all members in two lanes."""
    progress = Notes()
    with make_engine(one.spec, one.settings, progress=progress) as found:
        assert isinstance(found, GpuEngine)
        policies = tuple(Schedule.none(1))
        tasks = [Task(member, None, policies, evaluate=True) for member in range(4)]
        outcomes = list(found.run(tasks, lambda: False))
    return {
        "lanes": found.slots,
        "members": sorted(outcome.member for outcome in outcomes),
        "finished": all(outcome.finished for outcome in outcomes),
        "notes": progress.notes,
    }


def host(one):
    """A worker whose states travel: two members in turn, each state out and in."""
    runner = HostRunner(one.spec)
    policy, states = Schedule.none(1)[0], {}
    for member in (0, 1, 0):
        runner.load_member(member, states.get(member)).train_epoch(policy)
        states[member] = runner.take_state()
    held = {tensor.device.type for state in states.values() for tensor in state.tensors.values()}
    return {"recorded": runner.trainer.recorded is not None, "held": sorted(held)}


def result(case):
    loss, network, bits = case.split("/")
    found, error = {}, None
    with fake_cuda.fake_cuda() as watch:
        try:
            one = plan(loss, network, int(bits))
            found = {"swaps": swaps(watch, one), "engine": engine(one), "host": host(one)}
        except Exception as raised:
            error = "".join(traceback.format_exception(raised))[-6000:]
        allowed = {"evaluation": ("evaluate",), "finite": ("is_finite",)}
        phases = ("beginning", "swap", "step", "evaluation", "finite", "checkpoint", "resume")
        violations = {phase: watch.violations(phase, allowed.get(phase, ())) for phase in phases}
        launches = {phase: watch.launches[phase].total() for phase in phases}
        reads = sum(watch.notes["finite"].values())
    return {"error": error, **found, "violations": violations, "launches": launches, "reads": reads}


if __name__ == "__main__":
    torch.set_num_threads(1)
    for argument in sys.argv[1:]:
        print(json.dumps({"case": argument, **result(argument)}), flush=True)
