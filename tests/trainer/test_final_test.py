"""The final test: in float32 whatever the training's precision, every logit kept, never in the way."""

import copy

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_training import network, split
from torch import nn

import rolewise as rw
from rolewise.data import Data
from rolewise.errors import first_line
from rolewise.objective import CrossEntropy
from rolewise.progress import Progress
from rolewise.quant import quantize
from rolewise.runs import RunDirectory
from rolewise.trainer import Trainer, evaluation, final_test, teacher_settings
from rolewise.trainer.evaluation import _parts


def plain_logits(model, images):
    """The network on every image, normalized in NumPy, in float64."""
    model = copy.deepcopy(model).double().eval().to(memory_format=torch.contiguous_format)
    pixels = (images.images.numpy() / 255.0 - np.array(images.mean)) / np.array(images.std)
    with torch.no_grad():
        return model(torch.from_numpy(pixels.transpose(0, 3, 1, 2))).numpy()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_it_is_in_float32_and_keeps_every_logit(precision):
    train, test = split(64), split(90)
    settings = teacher_settings(1, batch_size=32, precision=precision, eval_batch=40)
    trainer = Trainer(network(1), CrossEntropy(), train, settings, seed=0)
    trainer.train_epoch()
    result = final_test(trainer, test, [])
    expected = plain_logits(trainer.model, test)
    assert result.precision == precision
    assert result.logits.dtype == torch.float32
    np.testing.assert_allclose(result.logits.numpy(), expected, atol=2e-5)
    assert torch.equal(result.labels, test.labels)
    assert result.n == 90
    found = expected.argmax(1) == test.labels.numpy()
    assert result.accuracy == found.mean()
    shifted = expected - expected.max(1, keepdims=True)
    likelihood = shifted[np.arange(90), test.labels.numpy()] - np.log(np.exp(shifted).sum(1))
    assert result.loss == pytest.approx(-likelihood.mean(), abs=1e-5)
    if precision == "bf16":  # the difference that this is about
        in_training = trainer.evaluate(test, keep_logits=True).logits
        assert (in_training - result.logits).abs().max() > 1e-3


def test_a_low_bit_network_trained_in_bfloat16_has_the_accuracy_of_its_file(tmp_path):
    data = rw.load_data("digits")
    model = quantize(network(1), 2, 2)
    result = rw.train(model, data, epochs=1, batch_size=64, precision="bf16")
    rw.export(model, tmp_path / "small.safetensors")
    packed = rw.load_network(tmp_path / "small.safetensors").eval()
    mean, std = torch.tensor(data.train.mean), torch.tensor(data.train.std)
    with torch.no_grad():
        images = ((data.test.images.float() / 255 - mean) / std).permute(0, 3, 1, 2)
        found = packed(images).argmax(1)
    assert result.accuracy == pytest.approx((found == data.test.labels).float().mean().item(), abs=1.5 / 360)


class OnVectors(nn.Module):
    """A head with batch normalization of vectors, which one image alone has no statistics for."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(3, 8, 3), nn.BatchNorm1d(8), nn.Linear(8, 10)

    def forward(self, x):
        return self.fc(self.norm(self.conv(x).mean((2, 3))))


@pytest.mark.parametrize("count", [128, 129, 257, 2])
def test_an_image_left_over_costs_nothing(count):
    data = Data("noise", split(64), lambda: split(count))
    result = rw.train(OnVectors(), data, epochs=1, batch_size=32, lr=0.01)
    assert result.n == count
    assert result.batch_statistics is not None


def test_a_network_that_cannot_be_measured_so_is_trained_all_the_same():
    said = []

    class Notes(Progress):
        def note(self, text):
            said.append(text)

    data = Data("noise", split(64), lambda: split(1))
    result = rw.train(OnVectors(), data, epochs=1, batch_size=32, lr=0.01, progress=Notes())
    assert result.n == 1
    assert result.batch_statistics is None
    assert any("no accuracy with batch statistics: Expected more than 1 value" in text for text in said)


def test_an_error_without_words_costs_no_training_either(monkeypatch):
    plain, said = evaluation.evaluate, []

    def refuse(*arguments, batch_statistics, **options):
        if batch_statistics:
            raise RuntimeError
        return plain(*arguments, batch_statistics=batch_statistics, **options)

    class Notes(Progress):
        def note(self, text):
            said.append(text)

    monkeypatch.setattr("rolewise.trainer.loop.evaluate", refuse)
    data = Data("noise", split(64), lambda: split(8))
    result = rw.train(OnVectors(), data, epochs=1, batch_size=32, lr=0.01, progress=Notes())
    assert result.batch_statistics is None
    assert "no accuracy with batch statistics: RuntimeError" in said
    assert first_line(ValueError("\nfirst\nsecond")) == "first"


def test_batch_statistics_against_pytorch(monkeypatch):
    """257 images are a batch of 128 and one of 129."""
    trainer = Trainer(
        OnVectors(), CrossEntropy(), split(64), teacher_settings(1, batch_size=32, precision="fp32")
    )
    test = split(257)
    pixels = ((test.images.float() / 255 - 0.5) / 0.25).permute(0, 3, 1, 2)
    plain = copy.deepcopy(trainer.model).train()
    with torch.no_grad():
        found = torch.cat([plain(pixels[:128]), plain(pixels[128:])])
    expected = (found.argmax(1) == test.labels).float().mean().item()
    assert trainer.evaluate(test, batch_statistics=True).accuracy == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("count", [1, 2, 5, 128, 129, 130, 256, 257, 1000])
def test_parts_cover_every_image_once(count):
    for alone in (False, True):
        parts = _parts(count, 128, alone=alone)
        assert [index for part in parts for index in range(count)[part]] == list(range(count))
        sizes = [len(range(count)[part]) for part in parts]
        assert max(sizes) <= (128 if alone else 129)
        assert alone or count == 1 or min(sizes) > 1


def test_what_a_run_keeps(tmp_path):
    with RunDirectory.create(tmp_path / "run", {}) as run:
        path = run.write_tensors(
            "tests/student.safetensors", {"logits": torch.ones(3, 2).t(), "labels": torch.arange(2)}
        )
        found = load_file(path)
    assert path == tmp_path / "run" / "tests" / "student.safetensors"
    assert torch.equal(found["logits"], torch.ones(2, 3))
    assert found["labels"].dtype == torch.int64
