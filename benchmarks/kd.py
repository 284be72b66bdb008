"""What distillation losses cost: KD-SVD against its plain form, peak memory, and every loss relative to a bare step.

    python benchmarks/kd.py                             # all, one thread; features of a briefly trained ResNet18
    python benchmarks/kd.py --data-root ~/data          # the same on CIFAR-100 images instead of random ones
    python benchmarks/kd.py --rounds 2 --steps 2        # quicker, coarser
    python benchmarks/kd.py --docs                      # only writes the recorded costs into docs/losses.md

The plain form is the published mathematics in plain PyTorch: `torch.linalg.svd` of every map, and the RBF kernels as
images of channels x channels. Both sides read the same features, the student's being those of a 4-bit copy.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common import RECORDED, RESULTS, alternate, ratio, record, summary
from kd_plain import plain_ii_kd, plain_kd_svd
from torch import Tensor
from torch.nn import functional as F

import rolewise as rw
from rolewise import kd, networks
from rolewise.data import Split
from rolewise.kd import Outputs
from rolewise.kd.base import collect
from rolewise.kd.eigen import power_iteration

BATCH = 128
DOCS = Path(__file__).parents[1] / "docs" / "losses.md"


def batches(data_root: str | None, count: int) -> tuple[Tensor, Tensor]:
    """Normalized images and labels for some batches: CIFAR-100, or smooth random images."""
    generator = torch.Generator().manual_seed(0)
    if data_root:
        train = rw.load_data("cifar100", root=data_root).train
        pick = torch.randperm(len(train.images), generator=generator)[: count * BATCH]
        pixels = train.images[pick].permute(0, 3, 1, 2).float() / 255
        mean, std = (torch.tensor(x).view(1, 3, 1, 1) for x in (train.mean, train.std))
        return (pixels - mean) / std, train.labels[pick]
    coarse = torch.randn(count * BATCH, 3, 8, 8, generator=generator)
    labels = torch.randint(0, 100, (count * BATCH,), generator=generator)
    return F.interpolate(coarse, size=32, mode="bicubic"), labels


def features(data_root: str | None, steps: int) -> tuple[Outputs, Outputs]:
    """One batch as a 4-bit student (training mode) and its teacher (eval mode) see it, after some training steps."""
    images, labels = batches(data_root, steps + 1)
    teacher = networks.build("resnet18", num_classes=100)
    teacher.reset(torch.Generator().manual_seed(0))
    optimizer = torch.optim.SGD(teacher.parameters(), 0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    teacher.train()
    for module in teacher.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.2  # the running statistics must catch up within these few steps
    for step in range(steps):
        part = slice(step * BATCH, (step + 1) * BATCH)
        with torch.autocast("cpu", torch.bfloat16):
            logits = teacher(images[part])
        optimizer.zero_grad()
        F.cross_entropy(logits.float(), labels[part]).backward()
        optimizer.step()
    student = rw.quantize(networks.build("resnet18", num_classes=100), 4, 4).train()
    networks.init_from(student, teacher)
    ids = torch.arange(BATCH)
    with torch.no_grad():
        seen = collect(student, images[-BATCH:], student.taps)
        taught = collect(teacher.eval(), images[-BATCH:], teacher.taps, "teacher")
    return tuple(Outputs(x.logits, x.features, labels[-BATCH:], ids) for x in (seen, taught))


# Measurements.


def backward(
    loss: Callable[[Outputs, Outputs], Tensor], student: Outputs, teacher: Outputs
) -> Callable[[], Any]:
    """Forward and backward of a loss, down to the student's logits and maps and the loss's own parameters."""
    leaves = Outputs(
        student.logits.clone().requires_grad_(),
        tuple(f.clone().requires_grad_() for f in student.features),
        student.labels,
        student.ids,
    )
    own = list(loss.parameters()) if isinstance(loss, torch.nn.Module) else []

    def run() -> None:
        value = loss(leaves, teacher)
        torch.autograd.grad(value, [leaves.logits, *leaves.features, *own], allow_unused=True)

    return run


def kd_svd_speed(student: Outputs, teacher: Outputs, rounds: int) -> dict[str, Any]:
    """KD-SVD in all its forms, paired; and how well they agree with float64."""
    forms: dict[str, Callable[[Outputs, Outputs], Tensor]] = {"plain": plain_kd_svd}
    forms |= {method: kd.KDSVD(method=method) for method in ("exact", "eigh", "products")}
    seconds = alternate(
        {name: backward(form, student, teacher) for name, form in forms.items()}, rounds=rounds
    )
    figures: dict[str, Any] = {
        f"ms {name}": summary([1e3 * s for s in found]) for name, found in seconds.items()
    }
    for name in ("exact", "eigh", "products"):
        figures[f"plain / {name}"] = ratio(seconds["plain"], seconds[name])
    double = [Outputs(x.logits.double(), tuple(f.double() for f in x.features)) for x in (student, teacher)]
    expected = gradients(kd.KDSVD(method="eigh"), *double)
    for name, form in forms.items():
        found = gradients(form, student, teacher)
        worst = max(_image_error(a, b) for a, b in zip(found[1:], expected[1:], strict=True))
        figures[f"error {name}"] = {
            "value": abs(float(found[0]) / float(expected[0]) - 1),
            "gradient, worst image": worst,
            "images with NaN": sum(int(g.isnan().flatten(1).any(1).sum()) for g in found[1:]),
        }
    figures["share of certain images"] = _certain(student, teacher)
    return figures


def gradients(loss: Callable[[Outputs, Outputs], Tensor], student: Outputs, teacher: Outputs) -> list[Tensor]:
    maps = [f.clone().requires_grad_() for f in student.features]
    value = loss(Outputs(student.logits, tuple(maps)), teacher)
    return [value.detach(), *torch.autograd.grad(value, maps)]


def _image_error(found: Tensor, expected: Tensor) -> float:
    error = (found.double() - expected).flatten(1).norm(dim=1) / expected.flatten(1).norm(dim=1)
    return float(error.nan_to_num(posinf=0).max())


def _certain(student: Outputs, teacher: Outputs) -> dict[str, float]:
    """How often power iteration is proven right, per network (the student's must also be the nearest)."""
    shares = {}
    for name, outputs in (("student", student), ("teacher", teacher)):
        found = []
        for feature in outputs.features:
            maps = feature.flatten(2)
            gram = maps.mT @ maps if maps.shape[2] < maps.shape[1] else maps @ maps.mT
            gram = gram / gram.diagonal(dim1=1, dim2=2).sum(1)[:, None, None]
            found.append(power_iteration(gram)[2].float().mean())
        shares[name] = float(torch.stack(found).mean())
    return shares


def peak_memory(student: Outputs, teacher: Outputs) -> dict[str, Any]:
    """MB above the resident features at the peak of one step of all KD terms, each form in a process of its own.

    The C library is set to return freed blocks at once (otherwise both peaks hold up to 50 MB that nobody uses).
    """
    returning = os.environ | {"MALLOC_MMAP_THRESHOLD_": "1000000"}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "features.pt"
        torch.save([[x.logits, *x.features] for x in (student, teacher)], path)
        found = {}
        for form in ("plain", "ours"):
            command = [sys.executable, __file__, "--peak-of", form, "--features", str(path)]
            run = subprocess.run(command, check=True, capture_output=True, text=True, env=returning)
            found[form] = float(run.stdout)
    return {"MB": found, "ours / plain": found["ours"] / found["plain"]}


def _one_peak(form: str, path: str) -> None:
    """In a process of its own: prints how far resident memory rises during one step, in MB."""
    torch.set_num_threads(1)
    student, teacher = (Outputs(x[0], tuple(x[1:])) for x in torch.load(path, weights_only=True))
    ours = kd.IIKD(trained=False)
    ours.build(student, teacher, generator=torch.Generator().manual_seed(0), images=BATCH)
    run = backward(ours if form == "ours" else plain_ii_kd(ours.mhgd), student, teacher)
    small = [Outputs(x.logits[:2], tuple(f[:2] for f in x.features)) for x in (student, teacher)]
    backward(ours, *small)()  # libraries allocate what they keep
    Path("/proc/self/clear_refs").write_text(
        "5"
    )  # resets the peak, which is otherwise inherited from the parent
    before = _resident("VmRSS")
    run()
    print((_resident("VmHWM") - before) / 1024)


def _resident(field: str) -> int:
    """A line of /proc/self/status in kB: VmRSS, what is resident now, or VmHWM, its peak."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    if found is None:
        raise SystemExit("Peak memory is read from /proc/self/status, which this system does not have.")
    return int(found[1])


def bare_step() -> Callable[[], Any]:
    """Forward, backward and update of ResNet18 on one batch, bf16 and channels_last."""
    model = networks.build("resnet18", num_classes=100).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(
        model.parameters(), 0.1, momentum=0.9, nesterov=True, weight_decay=5e-4, fused=True
    )
    images = torch.randn(BATCH, 3, 32, 32).to(memory_format=torch.channels_last)
    labels = torch.randint(0, 100, (BATCH,))

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(images)
        F.cross_entropy(logits.float(), labels).backward()
        optimizer.step()

    return step


def costs(student: Outputs, teacher: Outputs, rounds: int) -> dict[str, Any]:
    """Each loss's forward and backward relative to the median of the bare steps that took turns with it."""
    sides: dict[str, Callable[[], Any]] = {"bare": bare_step()}
    for name, kind in kd.LOSSES.items():
        loss = kind(trained=False) if name in ("mhgd", "ii-kd") else kind()
        loss.build(student, teacher, generator=torch.Generator().manual_seed(0), images=50_000)
        if not loss.prepared:
            _prepare(loss)
        sides[name] = backward(loss, student, teacher)
    seconds = alternate(sides, rounds=rounds)
    figures: dict[str, Any] = {"ms bare step": summary([1e3 * s for s in seconds.pop("bare")])}
    bare = figures["ms bare step"]["median"] / 1e3
    for name, found in seconds.items():
        figures[name] = {
            "ms": summary([1e3 * s for s in found]),
            "share of a step": summary([s / bare for s in found]),
        }
    return figures


def _prepare(loss: kd.KDLoss) -> None:
    """One pass over a few images: what is trained does not change what a step costs."""
    generator = torch.Generator().manual_seed(0)
    split = Split(
        images=torch.randint(0, 256, (BATCH, 32, 32, 3), generator=generator, dtype=torch.uint8),
        labels=torch.zeros(BATCH, dtype=torch.int64),
        ids=torch.arange(BATCH),
        classes=tuple(map(str, range(100))),
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
    )
    loss.prepare(networks.build("resnet18", num_classes=100).eval(), split, epochs=1, seed=0)


def write_docs() -> None:
    """Fills the cost column of docs/losses.md from the recorded result."""
    figures = json.loads((RESULTS / "kd.json").read_text())["figures"]["cost"]
    lines = DOCS.read_text().splitlines()
    for index, line in enumerate(lines):
        found = re.match(r"\| `([a-z0-9-]+)` \|", line)
        if found:
            share = figures[found[1]]["share of a step"]["median"]
            text = f"{100 * share:.1f} %" if share >= 0.001 else "< 0.1 %"
            columns = line.split("|")
            columns[-3] = f" {text} "  # the last one is the gradient's
            lines[index] = "|".join(columns)
    DOCS.write_text("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=24, help="training steps before the features are taken")
    parser.add_argument("--data-root", help="folder that holds cifar-100-python")
    parser.add_argument("--docs", action="store_true")
    parser.add_argument("--peak-of", choices=["plain", "ours"], help=argparse.SUPPRESS)
    parser.add_argument("--features", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak_of:
        _one_peak(options.peak_of, options.features)
        return
    if not options.docs:
        torch.set_num_threads(1)
        student, teacher = features(options.data_root, options.steps)
        figures = {
            "kd-svd": kd_svd_speed(student, teacher, options.rounds),
            "peak memory of all KD terms": peak_memory(student, teacher),
            "cost": costs(student, teacher, options.rounds),
        }
        images = "CIFAR-100 images" if options.data_root else "smooth random images"
        note = f"ResNet18, batch {BATCH}, one thread; features after {options.steps} steps on {images}"
        record("kd", figures, note=note)
    if options.docs or RECORDED:
        write_docs()


if __name__ == "__main__":
    main()
