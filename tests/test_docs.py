"""The pages: every link leads somewhere, every command can be parsed, every Python block runs."""

import itertools
import re
import shlex
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import typer

import rolewise as rw
from rolewise import networks, stages
from rolewise.cli import app
from rolewise.config import load_config
from rolewise.config.loading import flat
from rolewise.stages import open_pipeline

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
# Their blocks belong together and need files: they have tests of their own (`tests/tutorials`, `tests/test_readme.py`).
ELSEWHERE = {"README.md", "own-data.md", "own-loss.md", "own-pair.md", "parts-in-your-own-loop.md"}


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        target, _, anchor = link.partition("#")
        path = page.parent / target if target else page
        assert path.exists(), f"{name_of(page)} links to {link}"
        if anchor and path.suffix == ".md":
            titles = re.findall(r"^#+ +(.*)$", path.read_text("utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
            assert anchor in anchors, f"{name_of(page)} links to {link}; known: {sorted(anchors)}"


def commands(text: str) -> Iterator[list[str]]:
    """The `rolewise` commands in the code blocks of a page, as lists of arguments."""
    blocks = re.findall(r"```(?:sh|bash|console|)\n(.*?)```", text, re.DOTALL)
    blocks += re.findall(r"(?:^    .*\n)+", text, re.MULTILINE)
    for block in blocks:
        for line in re.sub(r"\\\n\s*", " ", block).splitlines():
            line = line.strip().removeprefix("$ ")
            if re.match(r"(?:torchrun [^#]*-m rolewise\.cli |rolewise )", line):
                words = shlex.split(line, comments=True)
                first = words.index("rolewise" if words[0] == "rolewise" else "rolewise.cli") + 1
                yield list(
                    itertools.takewhile(lambda word: word not in ("||", "&&", "|", ";"), words[first:])
                )


# Of typer's own click, or of the package, by its version.
UsageError = typer.BadParameter.__bases__[0]


def parse(arguments: list[str]) -> dict[str, Any]:
    """The values of a command's options; an error of usage if a command or an option does not exist."""
    command: Any = typer.main.get_command(app)
    context = command.make_context("rolewise", list(arguments))
    while hasattr(command, "resolve_command"):
        name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(name, rest, parent=context)
    return context.params


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_can_be_parsed(page: Path) -> None:
    """Commands and options exist and take the values, and `--set` names settings; nothing is run."""
    known = flat(load_config().model_dump())
    for arguments in commands(page.read_text("utf-8")):
        if "..." in arguments:  # an outline, which lacks what is needed
            continue
        try:
            settings = parse(arguments).get("set_") or []
        except UsageError as error:
            pytest.fail(f"{name_of(page)}: rolewise {shlex.join(arguments)}: {error.format_message()}")
        for setting in settings:
            name = setting.partition("=")[0]
            assert name in known or name.rpartition(".")[0] in known, f"{name_of(page)}: no setting {name}"


@pytest.mark.parametrize(
    "line", ["rnu", "run --nonsense 3", "run --seed abc", "data", "data feth cifar10", "train"]
)
def test_a_command_that_cannot_be_parsed_is_seen(line: str) -> None:
    with pytest.raises(UsageError):
        parse(shlex.split(line))


def test_commands_are_found() -> None:
    assert sum(len(list(commands(page.read_text("utf-8")))) for page in PAGES) >= 30


def blocks(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)


SMALL = {
    "search.population": 4, "search.epochs": 1, "search.batch_size": 32, "machine.workers": 1, "machine.threads": 1,
    "teacher.train.epochs": 1, "student.train.epochs": 1,
}  # fmt: skip


class MyNet(torch.nn.Module):
    """A network of a reader's own, named as in torchvision."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu = torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU()
        self.layer1 = torch.nn.Sequential(*(self.block() for _ in range(2)))
        self.fc = torch.nn.Linear(4, 10)

    @staticmethod
    def block() -> torch.nn.Module:
        return torch.nn.Sequential(OrderedDict(conv=torch.nn.Conv2d(4, 4, 3), relu=torch.nn.ReLU()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.layer1(self.relu(self.conv(x))).mean((2, 3)))


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What the pages take for granted: a teacher, a student, data, a schedule; searches and trainings of seconds."""
    monkeypatch.chdir(tmp_path)
    data = rw.load_data("digits")
    search, train, load_data, load = rw.search, rw.train, rw.load_data, rw.Schedule.load
    fewer = {"train_images": 64, "validation_images": 32, "batch_size": 32, "workers": 1}

    def small_search(model, data, **options):
        options |= {"population": 4, "epochs": 2, "interval": 1, **fewer}
        return search(model, data, **options)

    def small_train(model, data, **options):
        augment = options.get("augment")
        options |= {"epochs": 1, "batch_size": 64, "augment": None if augment is None else augment.stretch(1)}
        return train(model, data, **options)

    monkeypatch.setattr(rw, "search", small_search)
    monkeypatch.setattr(rw, "train", small_train)
    monkeypatch.setattr(rw, "load_data", lambda *_args, **_options: load_data("digits"))

    def load_or_draw(path, epochs=None, **more):
        return load(path, epochs, **more) if Path(path).exists() else rw.Schedule.random(200, 0)

    def small_pipeline(config, *, out=None, resume=None):
        small = {
            "preset": "demo",
            "kd.loss": "none",
            "data.search_train": 64,
            "data.search_validation": 32,
            **SMALL,
        }
        given = {key: value for key, value in config.items() if not key.startswith("data.")}
        return open_pipeline(given if resume else small | given, out=out, resume=resume)

    monkeypatch.setattr(stages, "open_pipeline", small_pipeline)
    monkeypatch.setattr(rw.Schedule, "load", load_or_draw)
    monkeypatch.setattr(
        rw.kd.IIKD, "prepare", lambda self, teacher, split, **_: self.restore(_heads(teacher))
    )
    teacher = networks.build("resnet8", num_classes=10, seed=0).eval()
    student = rw.quantize(networks.build("resnet8", num_classes=10, seed=1), 4, 4)
    few = torch.arange(8)
    return {
        "rw": rw, "torch": torch, "teacher": teacher, "student": student, "model": student, "data": data,
        "schedule": rw.Schedule.random(200, seed=0), "a_s": rw.Schedule.random(200, seed=1), "epoch": 150, "seed": 0,
        "images": data.train.images[few], "labels": data.train.labels[few], "ids": few, "device": torch.device("cpu"),
        "mean": data.train.mean, "std": data.train.std, "batches": [torch.zeros(2, 3, 32, 32)],
        "task": rw.Distill(teacher, rw.kd.SoftLabels()), "my_net": MyNet(),
    }  # fmt: skip


def _heads(teacher: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Heads of II-KD as if they had been trained."""
    loss = rw.kd.IIKD(trained=False)
    images = torch.zeros(2, 3, 32, 32)
    with torch.no_grad():
        found = rw.kd.base.collect(teacher, images, teacher.taps)
    loss.build(found, found, generator=torch.Generator().manual_seed(0), images=2)
    return loss.state_dict()


WITH_CODE = [page for page in PAGES if blocks(page) and page.name not in ELSEWHERE]


@pytest.mark.parametrize("page", WITH_CODE, ids=name_of)
def test_python_blocks_run(page: Path, names: dict[str, object]) -> None:
    """The blocks of a page in their order, in one namespace."""
    for number, code in enumerate(blocks(page), 1):
        try:
            exec(compile(code, f"{page.name}, block {number}", "exec"), names)
        except Exception as error:
            raise AssertionError(f"block {number} of {name_of(page)} fails: {error!r}") from error
