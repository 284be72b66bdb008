"""A recorded step, with a tape in the graph's place: repeating it is training, to the bit.

What no CPU can show: that CUDA records every operation, and the order between streams.
"""

import gc
import weakref

import pytest
import torch
from small_training import network, split
from tape import Tape

import rolewise as rw
from rolewise import kd
from rolewise.augment import normalization_table, normalize
from rolewise.objective import CrossEntropy, Distill, Placement
from rolewise.objective.moments import load_optimizer, optimizer_tensors
from rolewise.trainer import State, Trainer, student_settings, teacher_settings, torch_threads
from rolewise.trainer.evaluation import look_up
from rolewise.trainer.recorded import LiveTensors, NoRecorder, RecordedStep, record

KINDS = ("teacher", "soft", "fitnet", "ii-kd")


class TapeRecorder(NoRecorder):
    """Records what the step does to which memory, and repeats that alone."""

    def __init__(self):
        self.tapes = []

    def record(self, step):
        with Tape() as tape:
            step()
        self.tapes.append(tape)
        return tape.replay


class Refusing(NoRecorder):
    def record(self, step):
        raise RuntimeError("operation not permitted when stream is capturing\nCUDA error")


@pytest.fixture(autouse=True)
def _one_thread():
    with torch_threads(1):
        yield


def trainer(kind, **changes):
    images = split(32)
    numbers = {"batch_size": 8, "precision": "fp32", **changes}
    if kind == "teacher":
        return Trainer(network(0), CrossEntropy(), images, teacher_settings(3, **numbers), seed=1)
    more = {"trained": False, "method": "products"} if kind == "ii-kd" else {}
    task = Distill(network(1).eval(), kd.LOSSES[kind](**more), clip=True, prepare_epochs=1)
    task.prepare(images, seed=0)
    model = rw.quantize(network(0), 4, 4)
    return Trainer(model, task, images, student_settings(3, **numbers), seed=1, role="student")


def same(one, other):
    ours, expected = one.state().tensors, other.state().tensors
    assert ours.keys() == expected.keys()
    for key, tensor in expected.items():
        assert torch.equal(ours[key], tensor), key


@pytest.mark.parametrize("kind", KINDS)
def test_epochs_and_members_through_one_recording(kind):
    """A fresh state, epochs over a milestone, another member, and back to the first one."""
    found, recorder = [], TapeRecorder()
    for recorded in (False, True):
        one = trainer(kind)
        fresh = one.state()
        if recorded:
            assert record(one, recorder) is None
            assert one.state().tensors.keys() > fresh.tensors.keys()  # the moments are there, and zero
        losses = [one.train_epoch().loss for _ in range(2)]
        kept = one.state()
        one.set_member(5)
        one.load_state(fresh)
        losses += [one.train_epoch().loss for _ in range(2)]
        one.set_member(None)
        one.load_state(kept)
        losses.append(one.train_epoch().loss)
        found.append((one, losses))
    assert len(recorder.tapes) == 1
    assert len(recorder.tapes[0].names) > 100
    assert found[0][1] == found[1][1]
    assert len(set(found[0][1])) == 5
    same(found[1][0], found[0][0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("epochs", [0, 1])
def test_recording_leaves_the_trainer_as_it_was(kind, epochs):
    one, other = trainer(kind), trainer(kind)
    for each in (one, other):
        for _ in range(epochs):
            each.train_epoch()
    before = other.state()
    assert record(one, TapeRecorder()) is None
    after = one.state()
    assert after.info == before.info
    for name, tensor in after.tensors.items():
        assert torch.equal(tensor, before.tensors.get(name, torch.zeros_like(tensor))), name
    one.train_epoch()
    other.train_epoch()
    same(one, other)


class _Addresses(NoRecorder):
    """As a CUDA graph does, it repeats without holding what it reads and writes."""

    def record(self, step):
        self.step = step
        return lambda: self.step()


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_recording_reads_outlives_the_trainer(kind):
    one, recorder = trainer(kind, ema_decay=0.9), _Addresses()
    batch = next(iter(one.feeder.batches(0, None)))
    step = RecordedStep(one, batch, recorder)
    modules = [one.model, *([] if kind == "teacher" else [one.objective.teacher])]
    read = [tensor for module in modules for tensor in module.state_dict(keep_vars=True).values()]
    read += [*one.tensors().values(), *(group["lr"] for group in one.optimizer.param_groups)]
    held = [weakref.ref(tensor.untyped_storage()) for tensor in read]
    kept_whole = weakref.ref(one)
    del one, modules, read
    recorder.step = None
    gc.collect()
    assert kept_whole() is None  # no cycle keeps the trainer: its memory goes with the step
    assert all(storage() is not None for storage in held)
    del step
    gc.collect()
    assert not any(storage() is not None for storage in held)


def test_a_step_that_cannot_be_recorded_stays_as_it_was():
    one, other = trainer("teacher"), trainer("teacher")
    assert record(one, Refusing()) == "operation not permitted when stream is capturing"
    assert one.recorded is None
    one.train_epoch()
    other.train_epoch()
    torch.testing.assert_close(one.state().tensors, other.state().tensors)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what torch.compile imports
def test_what_is_not_recorded_says_why():
    assert record(trainer("teacher")) == 'the device "cpu" records nothing'
    assert record(trainer("teacher", compile=True), TapeRecorder()) == "the networks are compiled"
    assert record(trainer("teacher", record_steps=False), TapeRecorder()) == "`record_steps` is off"


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_a_repetition_that_gives_another_loss_is_not_used(factor):
    one = trainer("teacher")

    class Drifting(NoRecorder):
        def record(self, step):
            def repeat():
                before = one.tensors()["sums"].clone()
                step()
                one.tensors()["sums"].sub_(before).mul_(factor).add_(before)

            return repeat

    assert record(one, Drifting()).startswith("the recorded step gives the loss")
    assert record(one, NoRecorder()) is None


def test_moments_that_a_state_lacks_become_zero_in_place():
    one = trainer("fitnet")
    one.train_epoch()
    moments = optimizer_tensors(one.optimizer)
    places = {name: moment.data_ptr() for name, moment in moments.items()}
    load_optimizer(one.optimizer, {}, in_place=True)
    again = optimizer_tensors(one.optimizer)
    assert {name: moment.data_ptr() for name, moment in again.items()} == places
    assert not any(moment.any() for moment in again.values())
    load_optimizer(one.optimizer, {})
    assert optimizer_tensors(one.optimizer) == {}


def test_tensors_are_copied_in_and_out_whatever_their_types_and_strides():
    values = {
        "weight": torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last),
        "count": torch.tensor(3),
        "half": torch.randn(5).bfloat16(),
        "sums": torch.randn(2, dtype=torch.float64),
    }
    live = LiveTensors({name: tensor.clone() for name, tensor in values.items()})
    room = live.empty()
    assert room["weight"].is_contiguous(memory_format=torch.channels_last)
    live.copy_to(room)
    for tensor in live.tensors.values():
        tensor.zero_()
    live.copy_from({name: tensor for name, tensor in room.items() if name != "count"})
    for name, tensor in values.items():
        assert torch.equal(room[name], tensor)
        assert torch.equal(live.tensors[name], tensor if name != "count" else torch.tensor(0))


def test_a_state_on_the_host_is_contiguous_and_keeps_its_values():
    weight = torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last)
    state = State({"model.weight": weight}, {"epoch": 1, "step": 0}).host()
    assert state.tensors["model.weight"].is_contiguous()
    assert torch.equal(state.tensors["model.weight"], weight)
    assert State.from_bytes(state.to_bytes()).info == {"epoch": 1, "step": 0}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_images_looked_up_in_the_table_are_the_kernels(precision, channels_last):
    """All 256 values of each channel, to the byte and in the same layout."""
    placement = Placement(torch.device("cpu"), precision, channels_last)
    pixels = torch.arange(256, dtype=torch.uint8).repeat(6, 1).reshape(2, 16, 16, 3)
    pixels = torch.cat((pixels, pixels.flip(0, 1, 2, 3)))
    mean, std = (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)
    table = normalization_table(mean, std).to(placement.dtype)
    found = look_up(pixels, table, placement)
    expected = normalize(pixels, mean, std, dtype=placement.dtype, channels_last=channels_last)
    assert found.dtype == expected.dtype
    assert found.stride() == expected.stride()
    assert torch.equal(found, expected)
