"""Which of torch's generators a training keys, on a machine with several GPUs."""

import pytest
import torch

from rolewise.trainer.generators import generators


@pytest.mark.parametrize(("device", "index"), [("cuda:0", 0), ("cuda:1", 1), ("cuda", 1)])
def test_the_generator_is_that_of_the_device_and_not_of_the_current_one(monkeypatch, device, index):
    made = (torch.Generator(), torch.Generator())
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "default_generators", made)
    assert generators(torch.device(device)) == [torch.default_generator, made[index]]


def test_on_a_cpu_it_is_the_default_one_alone():
    assert generators(torch.device("cpu")) == [torch.default_generator]
