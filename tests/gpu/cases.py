"""All that a member of a search does on a CUDA device, for one loss, network and quantizer; a JSON line each.

    python cases.py ii-kd/resnet8-small/4/dorefa ... [--planted]

Triton counts as installed, as on a machine with a GPU; not so in cases that end in "/plain".

A process of its own, because the device that it registers stays.
"""

import json
import sys
import traceback

import fake_cuda  # before anything asks for CUDA
import torch
from faults import planted

import rolewise as rw
from rolewise import kd, networks
from rolewise.augment import Schedule
from rolewise.data import Split
from rolewise.objective import CrossEntropy, Distill, MutualLearning
from rolewise.quant import kernels
from rolewise.trainer import Trainer, student_settings, teacher_settings

BATCH, CLASSES = 8, 10


def split():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2 * BATCH, 32, 32, 3), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, CLASSES, (len(images),), generator=generator)
    names = tuple(map(str, range(CLASSES)))
    return Split(images, labels, torch.arange(len(images)), names, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def objective(loss, teacher, prepared):
    if loss == "cross-entropy":
        return CrossEntropy()
    if loss == "mutual":
        return MutualLearning(teacher)
    arguments = {} if prepared else {"trained": False}
    return Distill(teacher.eval(), kd.LOSSES[loss](**arguments), prepare_epochs=1)


def run(watch, loss, network, bits, method):
    """Prepares, builds, takes two steps (the second as it is recorded), an epoch, evaluations, the state out and in."""
    images = split()
    model, teacher = (networks.build(network, num_classes=CLASSES) for _ in range(2))
    if bits < 32:
        rw.quantize(model, bits, bits, method=method)
    task = objective(loss, teacher, prepared=loss != "ii-kd")
    with watch.phase("prepare"):
        task.prepare(images, seed=0, device="cuda")
    numbers = teacher_settings if bits == 32 else student_settings
    one = Trainer(model, task, images, numbers(10, batch_size=BATCH, device="cuda"), seed=0)
    assert one.placement.precision == "bf16"
    assert one.placement.channels_last
    one.model.train()
    task.set_epoch(1, 0)
    policy = Schedule.random(1, seed=3)[0]
    for index, batch in enumerate(one.feeder.batches(0, policy)):
        with watch.phase("step" if index else "first step", capturing=index > 0):
            one.train_step(batch)
    with watch.phase("epoch"):
        one.train_epoch(policy)
    with watch.phase("evaluation"):
        one.evaluate(images)
        one.evaluate(images, batch_statistics=True)
        one.evaluate(images, keep_logits=True)
    with watch.phase("state"):
        state = one.state()
        one.load_state(state)
    assert {tensor.device.type for tensor in state.tensors.values()} == {"cpu"}
    moments = [value for slot in one.optimizer.state.values() for value in slot.values()]
    held = (*one.model.state_dict().values(), *moments, *task.state().values(), one._sums)
    assert {tensor.device.type for tensor in held} == {"cuda"}
    with watch.phase("step after the state", capturing=True):
        one.train_step(batch)


def result(case):
    loss, network, bits, method, *form = case.split("/")
    kernels._triton_works = lambda device: form != ["plain"]
    error = None
    with fake_cuda.fake_cuda() as watch:
        try:
            run(watch, loss, network, int(bits), method)
        except Exception as raised:
            frames = [f for f in traceback.extract_tb(raised.__traceback__) if "/rolewise/" in f.filename]
            line = f"{frames[-1].filename.split('/src/')[-1]}:{frames[-1].lineno}" if frames else "cases.py"
            error = f"{type(raised).__name__} at {line}: {str(raised).splitlines()[0][:300]}"
        violations = {
            "step": [*watch.violations("step"), *watch.violations("step after the state")],
            "epoch": watch.violations("epoch", allowed=("_end_epoch",)),
            "evaluation": watch.violations("evaluation", allowed=("evaluate", "_together")),
        }
    return {"error": error, "violations": violations, "launches": watch.launches["step"].total()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    for argument in sys.argv[1:]:
        found = planted() if argument == "--planted" else result(argument)
        print(json.dumps({"case": argument, **found}), flush=True)
