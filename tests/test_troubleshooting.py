"""docs/troubleshooting.md: each message that a command can be made to give is the page's, word for word."""

import re
from pathlib import Path

import pytest
import torch
from PIL import Image

import rolewise as rw
from rolewise import networks
from rolewise.cli import main
from rolewise.errors import InputError, missing_extra

ROOT = Path(__file__).resolve().parents[1]
TITLES = re.findall(r"^### (.*)$", (ROOT / "docs" / "troubleshooting.md").read_text("utf-8"), re.MULTILINE)
NET = """
import torch

class Net(torch.nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.fc = torch.nn.Linear(3, num_classes)

    def forward(self, x):
        return self.fc(x.mean((2, 3))), x
"""
COMMANDS = {
    "Unknown setting": "run --set student.wieght_bits=2",
    "Unknown network": "run --network resnet19",
    "Unknown KD loss": "run --kd rdk",
    "`root` is missing": "run --data cifar10",
    "`root` must be a folder": "run --data folder --data-root nope",
    "... files cannot be used": "run --data folder --data-root pictures",
    "A search's batch": "run --set search.batch_size=1000",
    "`teacher.train.batch_size`": "run --set teacher.train.batch_size=5000",
    "The ... network": "run --network net.py:Net",
    "features[...]": "run --set student.network=wrn-16-2 --set student.init=random",
    "A new run has no teacher": "train --role student",
    "A new run has no A_T": "train --role teacher",
    "`--out`": "run --out old",
    "... is not a run directory": "run --resume nope",
}


def pattern(title: str) -> str:
    """A message of the page as a regular expression; `...` is anything."""
    return ".*".join(re.escape(part.strip()) for part in title.split("..."))


def title_of(beginning: str) -> str:
    found = [title for title in TITLES if title.startswith(beginning)]
    assert len(found) == 1, beginning
    return found[0]


def test_there_are_twenty() -> None:
    assert len(TITLES) == len(set(TITLES)) >= 20


@pytest.mark.parametrize("beginning", COMMANDS)
def test_a_command_gives_the_message(
    beginning: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NET, "utf-8")
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "config.json").write_text("{}", "utf-8")
    for part in ("train", "test"):
        for name in ("ant", "bee"):
            (tmp_path / "pictures" / part / name).mkdir(parents=True)
            Image.new("RGB", (20, 20)).save(tmp_path / "pictures" / part / name / "1.png")
    (tmp_path / "pictures" / "train" / "ant" / "2.png").write_text("no image", "utf-8")
    before = sorted(tmp_path.rglob("*"))
    assert main(COMMANDS[beginning].split()) == 2
    assert re.search(pattern(title_of(beginning)), capsys.readouterr().err, re.DOTALL)
    assert [path for path in sorted(tmp_path.rglob("*")) if "__pycache__" not in str(path)] == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_message_without_a_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--device", "cuda"]) == 2
    assert re.search(pattern(title_of("`device` is")), capsys.readouterr().err)


def test_the_message_of_a_missing_package() -> None:
    assert re.search(pattern(title_of("... needs ...")), str(missing_extra("Export", "onnx", "export")))


def test_the_message_of_a_schedule_of_another_length() -> None:
    data = rw.load_data("digits").limited(64, 32)
    with pytest.raises(InputError, match=pattern(title_of("`augment` holds"))):
        rw.train(networks.build("cnn-tiny", num_classes=10), data, augment=rw.Schedule.none(3), epochs=4)


@pytest.mark.parametrize(
    ("beginning", "file"),
    [
        ("`...` is ... in", "stages"),
        ("... is in use by", "runs"), ("... is not the file", "runs"), ("The ...'s training", "trainer"),
        ("Worker processes die", "population"), ("interrupted:", "stages"),
    ],
)  # fmt: skip
def test_other_messages_are_those_of_the_source(beginning: str, file: str) -> None:
    """These need a GPU's absence, a killed worker or damage, and have tests of their own; here their words."""
    place = ROOT / "src" / "rolewise" / file
    sources = [place] if place.is_file() else sorted(place.rglob("*.py"))
    text = " ".join(" ".join(source.read_text("utf-8") for source in sources).split())
    text = re.sub(r"[\"'] f?[\"']", "", text)
    words = [part.strip(' .:;,`"') for part in title_of(beginning).removeprefix("interrupted: ").split("...")]
    words = [word for word in words if len(word) > 6]
    assert words
    if beginning == "interrupted:":
        words = ["rolewise run --resume"]
    for word in filter(None, words):
        assert word in text, word
