"""Whether the device computes what the CPU does, and a recorded step what an eager one does.

A low-bit network's gradient has no bound: noise of 1e-7 on the convolutions' outputs, less than two libraries differ
by, moves activations to other levels, layer after layer, and brings the cosine of two gradients to 0.15. So the cosine
is bounded for a float network alone; quantizers and losses are compared one by one, on equal inputs.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import gpu_imports  # noqa: F401 - first: what follows may need its stand-in
import torch
from gpu_parts import Figures, Size, batches, recorded, trainer, wait
from torch import Tensor
from torch.nn import functional as F

from rolewise import kd, networks
from rolewise.data import Split
from rolewise.kd import Outputs
from rolewise.quant import quantize, quantize_activation, quantize_weight
from rolewise.seeds import torch_generator
from rolewise.trainer import Trainer

CHECKED = ("plain", "4-bit", "4-bit + soft", "4-bit + ii-kd")
LOSS, COSINE = 1e-2, 0.99  # relative difference of a loss; least cosine of a gradient
GRAPH = 1e-5  # of the state, or ten times what eager differs from itself
IMAGES = 16


@contextmanager
def _exact() -> Iterator[None]:
    """Without TF32, PyTorch's default for convolutions, which has 10 bits of mantissa."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """cuDNN chooses algorithms that give the same bits each time, or any."""
    before = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = wanted
    try:
        yield
    finally:
        torch.backends.cudnn.deterministic = before


def _with_gradient(function: object, x: Tensor) -> tuple[Tensor, Tensor]:
    given = x.clone().requires_grad_()
    y = function(given)  # type: ignore[operator]
    y.backward(torch.ones_like(y))
    assert given.grad is not None
    return y.detach().cpu(), given.grad.cpu()


def check_quantizers(size: Size) -> Figures:
    """Levels and gradients of DoReFa bit by bit, and the levels of LSQ's and PACT's layers, on equal inputs."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(64, 32, 3, 3, generator=generator) * 0.1
    images = torch.randn(8, 32, 16, 16, generator=generator)
    found: Figures = {}
    for bits in (1, 2, 4, 8):
        for name, x, function in (
            ("weights", weight, quantize_weight),
            ("activations", images, quantize_activation),
        ):
            for dtype in (torch.float32, torch.bfloat16):
                if name == "weights" and dtype == torch.bfloat16:
                    continue  # weights stay in float32
                given = x.to(dtype)
                here, there = (
                    _with_gradient(lambda t, f=function, b=bits: f(t, b), given.to(device))
                    for device in ("cpu", size.device)
                )
                levels = len(there[0].unique())
                # A level may differ in its last bit (a division as a product), never by a step.
                step = 1 / (2**bits - 1) if bits > 1 else 0.5
                apart = float((here[0].float() - there[0].float()).abs().max())
                found[f"{name}, {bits} bits, {str(dtype)[6:]}"] = {
                    "values that differ": int((here[0] != there[0]).sum()),
                    "largest difference": apart,
                    "gradients that differ": int((here[1] != there[1]).sum()),
                    "levels": levels,
                    "ok": apart < step / 100 and 1 < levels <= 2**bits,
                }
    for method in ("dorefa", "lsq", "pact"):
        found[method] = _layers(size, method)
    return found | {"ok": all(entry["ok"] for entry in found.values())}


def _layers(size: Size, method: str) -> Figures:
    """A small network under `method`: one layer after the other sees the CPU's input on the device."""
    model = networks.build("cnn-tiny", num_classes=10)
    quantize(model, 4, 4, method=method)
    model.train()
    pixels = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    leaves = {name: module for name, module in model.named_modules() if not list(module.children())}
    hooks = [
        module.register_forward_hook(
            lambda _, given, result, name=name: seen.__setitem__(name, (given[0].detach(), result.detach()))
        )
        for name, module in leaves.items()
    ]
    model(pixels)  # chooses the steps, which follow from the first batch
    for hook in hooks:
        hook.remove()
    there = dict(copy.deepcopy(model).to(size.device).named_modules())
    with torch.no_grad(), _exact():
        apart = {
            name: _distance(there[name](given.to(size.device)).cpu(), leaves[name](given))
            for name, (given, _) in seen.items()
        }
    worst = max(apart, key=apart.__getitem__)
    return {"worst layer": worst, "relative difference": apart[worst], "ok": apart[worst] < 1e-2}


def _distance(a: Tensor, b: Tensor) -> float:
    """Relative to `b`."""
    return float((a.double() - b.double()).norm() / b.double().norm().clamp_min(1e-12))


def _loss(name: str) -> kd.KDLoss:
    """With matrix products where it decomposes, as on a GPU, and heads that need no training."""
    arguments: Figures = {"kd-svd": {"method": "products"}}.get(name, {})
    if name in ("mhgd", "ii-kd"):
        arguments = {"method": "products", "trained": False}
    return kd.LOSSES[name](**arguments)


def _outputs(seed: int) -> Outputs:
    """As ResNets give them for small images: maps after a ReLU."""
    generator = torch.Generator().manual_seed(seed)
    shapes = ((16, 16, 16), (32, 8, 8), (64, 4, 4))
    maps = tuple(torch.randn(IMAGES, *shape, generator=generator).relu() for shape in shapes)
    labels = torch.randint(0, 10, (IMAGES,), generator=generator)
    return Outputs(torch.randn(IMAGES, 10, generator=generator) * 3, maps, labels, torch.arange(IMAGES))


def _prepared_on() -> tuple[torch.nn.Module, Split]:
    """A network whose maps have the sizes of `_outputs`, and noise."""
    model = networks.build("resnet8-small", num_classes=10).eval()
    generator = torch.Generator().manual_seed(2)
    images = torch.randint(0, 256, (2 * IMAGES, 32, 32, 3), generator=generator, dtype=torch.uint8)
    names = tuple(map(str, range(10)))
    labels = torch.arange(len(images)) % 10
    return model, Split(images, labels, torch.arange(len(images)), names, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def _value_and_gradient(
    loss: kd.KDLoss, student: Outputs, teacher: Outputs, device: str
) -> tuple[float, Tensor]:
    def there(outputs: Outputs) -> Outputs:
        assert outputs.labels is not None
        assert outputs.ids is not None
        maps = tuple(x.to(device) for x in outputs.features)
        return Outputs(outputs.logits.to(device), maps, outputs.labels.to(device), outputs.ids.to(device))

    given = there(student)
    leaves = [x.requires_grad_() for x in (given.logits, *given.features)]
    value = copy.deepcopy(loss).to(device)(given, there(teacher))
    gradients = torch.autograd.grad(value, leaves, allow_unused=True)
    flat = torch.cat([g.flatten().double().cpu() for g in gradients if g is not None])
    return float(value.detach()), flat


def check_losses(size: Size) -> Figures:
    """Value and gradient of each loss on the device against the CPU."""
    found: Figures = {}
    for name in kd.LOSSES:
        try:
            found[name] = _check_loss(size, name)
        except Exception as error:  # the others are still worth knowing
            found[name] = {"failed": f"{type(error).__name__}: {error}", "ok": False}
    return found | {"ok": all(entry["ok"] for entry in found.values())}


def _check_loss(size: Size, name: str) -> Figures:
    student, teacher = _outputs(0), _outputs(1)
    loss = _loss(name)
    if not loss.prepared:
        loss.taps = loss.teacher_taps = ("layer1", "layer2", "layer3")
        loss.prepare(*_prepared_on(), epochs=1)
    loss.build(student, teacher, generator=torch_generator(0, "check"), images=IMAGES)
    loss.train()
    with _exact():
        here, there = (_value_and_gradient(loss, student, teacher, device) for device in ("cpu", size.device))
    apart = abs(there[0] - here[0]) / max(abs(here[0]), 1e-12)
    cosine = float(F.cosine_similarity(here[1], there[1], dim=0))
    found = {"value": apart, "cosine": cosine, "ok": apart <= LOSS and cosine >= COSINE}
    if name in ("kd-svd", "mhgd", "ii-kd"):  # the decomposition by products against the exact one of a CPU
        exact = copy.deepcopy(loss)
        for part in exact.modules():
            if hasattr(part, "settings"):
                part.settings = part.settings._replace(method="exact")
        value, gradient = _value_and_gradient(exact, student, teacher, "cpu")
        found["products on the device to exact: value"] = abs(there[0] - value) / max(abs(value), 1e-12)
        found["products on the device to exact: cosine"] = float(
            F.cosine_similarity(gradient, there[1], dim=0)
        )
    return found


def _gradient(one: Trainer) -> tuple[float, Tensor]:
    batch = batches(one, 1)[0]
    loss = one.objective.backward(one.model, batch.images, batch.labels, batch.ids)[0]
    held = [p.grad.float().flatten().cpu() for p in one.model.parameters() if p.grad is not None]
    return float(loss), torch.cat(held).double()


def check_gradient(size: Size, what: str) -> Figures:
    """One batch's loss and gradient: the device in float32 against the CPU, or compiled against eager on the device."""
    found: Figures = {"bounds": {"loss": LOSS, "cosine, float network": COSINE}}
    kinds = CHECKED if what == "device" else ("plain", "4-bit")
    reference, changed = ({"device": "cpu"}, {}) if what == "device" else ({}, {"compile": True})
    for kind in kinds:
        with _exact():
            expected, gradient = _gradient(trainer(size, kind, precision="fp32", **reference))
            loss, other = _gradient(trainer(size, kind, precision="fp32", **changed))
        cosine = float(F.cosine_similarity(gradient, other, dim=0))
        apart, zeros = abs(loss - expected) / abs(expected), float((other == 0).double().mean())
        ok = apart <= LOSS and (cosine >= COSINE if kind == "plain" else zeros < 0.5)
        found[kind] = {"loss": apart, "cosine": cosine, "share of zeros": zeros, "ok": ok}
    return found | {"ok": all(found[kind]["ok"] for kind in kinds)}


def _apart(one: Trainer, other: Trainer) -> float:
    """The largest relative difference of a tensor of two states."""
    a, b = one.state().tensors, other.state().tensors
    return max(_distance(a[key], b[key]) for key in b)


def check_graph(size: Size, steps: int) -> Figures:
    """Steps replayed against eager ones, and eager against itself, with deterministic algorithms and without."""
    found: Figures = {"bounds": {"state": f"{GRAPH:g}, or ten times eager against itself"}}
    graphs = size.device.startswith("cuda")
    entries = []
    for wanted in (False, True):
        for kind in (kind for kind in CHECKED if kind in size.kinds):
            with deterministic(wanted):
                eager, again, graphed = (trainer(size, kind) for _ in range(3))
                every = batches(eager, steps)
                for one in (eager, again):
                    for batch in every:
                        one.train_step(batch)
                entry: Figures = {"eager to itself": _apart(again, eager)}
                if graphs:
                    step = recorded(graphed, every[0])
                    for batch in every:
                        step(batch)
                    wait(size.device)
                    entry["graph to eager"] = _apart(graphed, eager)
            noise = entry["eager to itself"]
            entry["same bits"] = noise == 0
            entry["ok"] = entry.get("graph to eager", 0.0) <= max(GRAPH, 10 * noise)
            entries.append(entry)
            found[kind + (", deterministic" if wanted else "")] = entry
    return found | {"ok": all(entry["ok"] for entry in entries)}
