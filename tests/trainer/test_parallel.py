"""Two processes under `torchrun` against one: the same losses, one writer, and all ends alike for both."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from rolewise.errors import InputError
from rolewise.objective import CrossEntropy, MutualLearning
from rolewise.objective.base import in_layout
from rolewise.runs import read_metrics
from rolewise.trainer import Trainer, teacher_settings
from rolewise.trainer.parallel import Group, _dense
from rolewise.trainer.synchronized import synchronized

HERE = Path(__file__).parent
EXACT = ("cross-entropy", "soft", "soft:clip", "fitnet:clip", "cross-entropy:bn", "soft:bn", "fitnet:clip:bn")
CASES = (*EXACT, "soft:bn:4bit", "fitnet:clip:4bit")
LIMIT = 120  # seconds; a collective that hangs must not hang the suite
STUDENT = [
    "--set", "student.network=cnn-tiny", "--set", "student.init=random", "--set", "student.schedule=none",
    "--set", "student.train.epochs=4", "--set", "student.train.batch_size=64", "--set", "machine.threads=2",
    "--set", "machine.precision=fp32", "--set", "kd.loss=none", "--set", "machine.checkpoint_seconds=0",
]  # fmt: skip


def environment():
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def torchrun(*arguments):
    """The command that starts two processes."""
    return [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        *map(str, arguments),
    ]


def run(command, expected=0):
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, env=environment())
    assert done.returncode == expected, done.stdout + done.stderr
    return done


def exit_statuses(text):
    """Those that torchrun reports of the processes that failed."""
    return {int(status) for status in re.findall(r"exitcode\s*: (-?\d+)", text)}


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """The cases trained by one process, and by two."""
    folder = tmp_path_factory.mktemp("shared")
    script = HERE / "shared_training.py"
    run([sys.executable, str(script), str(folder / "one"), *CASES])
    run(torchrun(script, folder / "two", *CASES))
    names = ("one.0", "two.0", "two.1")
    return [torch.load(folder / name, weights_only=True) for name in names]


@pytest.mark.parametrize("case", EXACT)
def test_losses_of_every_step_equal_those_of_one_process(followed, case):
    one, first, second = (found[case] for found in followed)
    assert len(one["losses"]) == 12
    torch.testing.assert_close(first["losses"][:, 0], one["losses"][:, 0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(first["metrics"], one["metrics"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(first["evaluation"], one["evaluation"], rtol=1e-5, atol=1e-5)
    # FitNet's regressor ends in a ReLU and learns by Adam: there, one process whose initial weights differ in their
    # last bit is found up to 2.4e-4 away from itself.
    atol = 5e-4 if case.startswith("fitnet") else 1e-5
    for key in one:
        if key.startswith("state."):
            torch.testing.assert_close(
                first[key], one[key], rtol=1e-4, atol=atol, msg=lambda words, key=key: f"{key}: {words}"
            )
            assert torch.equal(first[key], second[key]), key
    assert one["losses"][:, 0].std() > 0


@pytest.mark.parametrize("case", sorted(set(CASES) - set(EXACT)))
def test_low_bit_networks_stay_close(followed, case):
    """The last bit of a sum decides now and then to which level an activation is rounded."""
    one, first, _ = (found[case] for found in followed)
    torch.testing.assert_close(first["losses"][:, 0], one["losses"][:, 0], rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("case", CASES)
def test_each_process_takes_its_part_of_every_batch(followed, case):
    one, first, second = (found[case]["ids"] for found in followed)
    assert first.shape == second.shape == (12, 8)
    assert torch.equal(torch.cat((first, second), dim=1), one)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of two processes that nothing disturbs."""
    folder = tmp_path_factory.mktemp("runs")
    train = ["-m", "rolewise.cli", "train", "--role", "student", "--quiet"]
    whole = run(torchrun(*train, "--out", folder / "whole", *STUDENT))
    return folder, train, whole


def started(command):
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        start_new_session=True,
    )


def children(pid):
    """Of torchrun's process: the first one and the second one."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            settings = (folder / "environ").read_bytes().split(b"\0")
        except (OSError, IndexError):
            continue
        ranks = [int(one[5:]) for one in settings if one.startswith(b"RANK=")]
        if parent == pid and ranks:
            found[ranks[0]] = int(folder.name)
    return found


def interrupted(command, out, epochs, number):
    """Sends a signal to the second process once so many epochs are logged; returns torchrun's words."""
    process = started(command)
    try:
        end = time.monotonic() + LIMIT
        log = out / "metrics.jsonl"
        while not log.exists() or len(read_metrics(log)) < epochs:
            assert time.monotonic() < end
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        os.kill(children(process.pid)[1], number)
        words = "".join(process.communicate(timeout=LIMIT))
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    assert process.returncode != 0
    return words


def files(folder):
    """What a run left, byte for byte, but for what holds times."""
    names = ("student.safetensors", "metrics.jsonl")
    return {name: (folder / name).read_bytes() for name in names}


def test_only_the_first_process_writes(runs):
    folder, _, whole = runs
    lines = read_metrics(folder / "whole" / "metrics.jsonl")
    assert [(line["split"], line["epoch"]) for line in lines] == [
        ("train", 1), ("train", 2), ("train", 3), ("train", 4), ("test", 4),
    ]  # fmt: skip
    assert whole.stdout.count("Student cnn-tiny") == 1
    assert (folder / "whole" / "student.json").is_file()
    kept = load_file(folder / "whole" / "tests" / "student.safetensors")  # from the batches of both
    (row,) = json.loads((folder / "whole" / "results.json").read_text())["rows"]
    assert len(kept["logits"]) == row["n"] == 360
    assert (kept["logits"].argmax(1) == kept["labels"]).double().mean().item() == row["accuracy"]
    loss = torch.nn.functional.cross_entropy(kept["logits"].double(), kept["labels"]).item()
    assert loss == pytest.approx(row["loss"], abs=1e-6)


def test_what_befalls_one_process_ends_all_and_can_be_resumed(runs):
    """First a signal that asks, in the resumed run one that kills; what comes out is what an undisturbed run gives."""
    folder, train, _ = runs
    out = folder / "disturbed"
    words = interrupted(torchrun(*train, "--out", out, *STUDENT), out, 1, signal.SIGTERM)
    assert exit_statuses(words) == {75}, words
    assert f"Resume with the same command and --resume {out}" in words
    words = interrupted(torchrun(*train, "--resume", out), out, 2, signal.SIGKILL)
    assert -signal.SIGKILL in exit_statuses(words), words
    assert not (out / "student.safetensors").exists()
    run(torchrun(*train, "--resume", out))
    assert files(out) == files(folder / "whole")


def test_commands_that_start_their_own_processes_are_refused(tmp_path, monkeypatch, capsys):
    from rolewise.cli import main

    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.chdir(tmp_path)
    for command in (["run"], ["search", "--role", "teacher"]):
        assert main([*command, "--out", str(tmp_path / "run")]) == 2
        assert f"`rolewise {command[0]}` is one process" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


class Alone(Group):
    """One process that plays one of two."""

    def __init__(self, rank=0, size=2):
        self.rank, self.size, self.device = rank, size, torch.device("cpu")

    def broadcast_(self, tensors):
        pass


@pytest.mark.parametrize(
    ("batch", "words"), [(7, "choose a multiple of 2, at least 4"), (2, "at least 2 images each")]
)
def test_a_batch_that_cannot_be_shared(batch, words):
    with pytest.raises(InputError, match=words):
        Alone().share(batch)
    assert [Alone(rank, 4).share(128) for rank in (0, 3)] == [slice(0, 32), slice(96, 128)]


def test_what_cannot_be_shared_is_refused():
    from shared_training import network, split

    chosen = teacher_settings(1, batch_size=16, precision="fp32")
    with pytest.raises(InputError, match="MutualLearning averages no gradients"):
        Trainer(network(0, True), MutualLearning(network(1, True)), split(), chosen, group=Alone())
    chosen = teacher_settings(1, batch_size=16, precision="fp32", compile=True)
    with pytest.raises(InputError, match="`compile` is for a single process"):
        Trainer(network(0, True), CrossEntropy(), split(), chosen, group=Alone())


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("shape", [(6, 5, 3, 4), (6, 5)])
def test_batch_normalization_of_one_process_is_pytorchs(shape, momentum, affine):
    """Output, both gradients, running averages; then of two halves, whose means are taken by hand."""
    generator = torch.Generator().manual_seed(0)
    make = nn.BatchNorm2d if len(shape) == 4 else nn.BatchNorm1d
    plain, ours = (make(5, momentum=momentum, affine=affine).double() for _ in range(2))
    x = torch.randn(shape, generator=generator, dtype=torch.float64) * 3 + 100
    weight = torch.randn(shape, generator=generator, dtype=torch.float64)
    found = []
    for layer, context in (
        (plain, synchronized([], lambda t: t, 1)),
        (ours, synchronized([ours], lambda t: t, 1)),
    ):
        with context:
            given = x.clone().requires_grad_()
            for _ in range(2):
                y = layer(given)
            (y * weight).sum().backward()
        found.append((y.detach(), given.grad, *(p.grad for p in layer.parameters()), *layer.buffers()))
    assert len(found[0]) >= 5
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-9, atol=1e-9)
    ours.eval()
    with synchronized([ours], lambda t: pytest.fail("no statistics in eval mode"), 1):
        torch.testing.assert_close(ours(x), plain.eval()(x))
    assert "forward" not in vars(ours)


def test_gradients_travel_as_they_lie_in_memory():
    plain = torch.randn(4, 3, 5, 5)
    last = plain.to(memory_format=torch.channels_last)
    assert _dense(last).stride() == last.stride()
    assert _dense(last.flatten(1).T).shape == (75, 4)
    assert _dense(torch.ones(()).expand(3, 2)).is_contiguous()
    assert _dense(plain[:, ::2]).is_contiguous()
    for tensor in (plain, last, plain.mT, torch.ones(()), torch.ones(2, 0)):
        assert torch.equal(_dense(tensor), tensor)


def test_gradients_take_the_parameters_memory_format():
    """Fused optimizers go through parameter and gradient as memory lies: another format would permute the gradient."""
    gradient = torch.randn(8, 4, 3, 3)
    parameter = torch.randn(8, 4, 3, 3).to(memory_format=torch.channels_last)
    turned = in_layout(gradient, parameter)
    assert turned.stride() == parameter.stride()
    assert torch.equal(turned, gradient)
    assert in_layout(turned, parameter) is turned
    narrow = torch.randn(8, 4, 1, 1)
    assert in_layout(narrow, narrow.to(memory_format=torch.channels_last)) is narrow
