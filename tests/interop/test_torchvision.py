"""The torchvision transform, against a minimal stand-in of torchvision's v2 protocol."""

import pickle
import random
import sys
import types

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils._pytree import tree_flatten, tree_unflatten

from rolewise.augment import Policy, Schedule
from rolewise.errors import MissingExtraError

BUSY = Policy.from_vector([10, 6] * 30)
SCHEDULE = Schedule([(1, Policy.none()), (2, BUSY)])
MODULE = "rolewise.interop.torchvision"


class TvImage(torch.Tensor):
    """Stands in for `tv_tensors.Image`."""


class Mask(torch.Tensor):
    """Stands in for `tv_tensors.Mask`."""


class Transform(torch.nn.Module):
    """Stands in for `transforms.v2.Transform`: which inputs are transformed, and one draw for all of a sample."""

    _transformed_types = (torch.Tensor, Image.Image)

    def make_params(self, flat_inputs):
        return {}

    def forward(self, *inputs):
        flat, spec = tree_flatten(inputs if len(inputs) > 1 else inputs[0])
        needs = []
        plain = not any(isinstance(value, TvImage | Image.Image) for value in flat)
        for value in flat:
            wanted = any(
                isinstance(value, kind) if isinstance(kind, type) else kind(value)
                for kind in self._transformed_types
            )
            if (
                wanted and type(value) is torch.Tensor
            ):  # of plain tensors the first alone, and only without images
                wanted, plain = plain, False
            needs.append(wanted)
        params = self.make_params([value for value, need in zip(flat, needs, strict=True) if need])
        done = [
            self.transform(value, params) if need else value for value, need in zip(flat, needs, strict=True)
        ]
        return tree_unflatten(done, spec)


@pytest.fixture
def module(monkeypatch):
    """Our module, imported beside the stand-in."""
    v2 = types.ModuleType("torchvision.transforms.v2")
    v2.Transform = Transform
    tv_tensors = types.ModuleType("torchvision.tv_tensors")
    tv_tensors.Image = TvImage
    tv_tensors.wrap = lambda value, *, like: value.as_subclass(type(like))
    transforms = types.ModuleType("torchvision.transforms")
    transforms.v2 = v2
    package = types.ModuleType("torchvision")
    package.tv_tensors, package.transforms = tv_tensors, transforms
    for part in (package, transforms, v2, tv_tensors):
        monkeypatch.setitem(sys.modules, part.__name__, part)
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    import importlib

    yield importlib.import_module(MODULE)
    sys.modules.pop(MODULE, None)


def image(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (11, 8, 3)).astype(np.uint8)


def expected(pixels: np.ndarray, epoch: int) -> np.ndarray:
    """What the seed that is drawn next from `random` gives."""
    return BUSY(pixels, seed=random.getrandbits(62), epoch=epoch)


def test_images_of_every_kind(module):
    transform = module.ScheduleTransform(SCHEDULE)
    transform.set_epoch(2)
    pixels = image()
    planes = torch.from_numpy(pixels).permute(2, 0, 1)
    for value in (Image.fromarray(pixels), planes, planes.as_subclass(TvImage)):
        random.seed(1)
        result = transform(value)
        random.seed(1)
        assert type(result) is type(value)
        array = (
            np.asarray(result)
            if isinstance(result, Image.Image)
            else np.asarray(result.as_subclass(torch.Tensor))
        )
        np.testing.assert_array_equal(
            array if array.shape[-1] == 3 else array.transpose(1, 2, 0), expected(pixels, 2)
        )


def test_a_sample_gets_one_draw_and_keeps_the_rest(module):
    transform = module.ScheduleTransform(SCHEDULE)
    transform.set_epoch(1)
    pixels = image()
    one = torch.from_numpy(pixels).permute(2, 0, 1).as_subclass(TvImage)
    mask = torch.ones(11, 8, dtype=torch.uint8).as_subclass(Mask)
    label = torch.tensor(3)
    changed = False
    for seed in range(4):
        random.seed(seed)
        result = transform({"left": one, "right": one, "mask": mask, "label": label})
        assert torch.equal(result["left"], result["right"])
        assert result["mask"] is mask
        assert result["label"] is label
        changed = changed or not torch.equal(result["left"], one)
    assert changed
    random.seed(0)
    plain, same = transform(torch.from_numpy(pixels), label)
    random.seed(0)
    np.testing.assert_array_equal(plain.numpy(), expected(pixels, 1))
    assert same is label


def test_epochs_and_pickling(module):
    transform = module.ScheduleTransform(SCHEDULE, fill=(0, 0, 0))
    pixels = Image.fromarray(image())
    assert np.array_equal(np.asarray(transform(pixels)), image())
    transform.set_epoch(2)
    copied = pickle.loads(pickle.dumps(transform))
    random.seed(2)
    first = np.asarray(transform(pixels))
    random.seed(2)
    np.testing.assert_array_equal(np.asarray(copied(pixels)), first)
    assert transform.extra_repr() == "Schedule(3 epochs in segments of 1, 2), epoch=2"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ImportError("no module"), "is not installed"),
        (RuntimeError("operator torchvision::nms"), "does not work"),
    ],
)
def test_missing_or_broken(monkeypatch, error, words):
    class Finder:
        def find_spec(self, name, path=None, target=None):
            if name.startswith("torchvision"):
                raise error

    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    for name in [name for name in sys.modules if name.startswith("torchvision")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    with pytest.raises(MissingExtraError, match=rf"needs torchvision, which {words}.*rolewise\[vision\]"):
        __import__(MODULE)
