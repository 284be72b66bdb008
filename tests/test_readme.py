"""The code of the README runs, at a size for a test; its commands and links exist."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

import rolewise as rw
from rolewise import networks
from rolewise.cli import app
from rolewise.trainer import torch_threads

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def smaller(code: str, changes: dict[str, str]) -> str:
    for old, new in changes.items():
        assert old in code, f"the README no longer says {old!r}"
        code = code.replace(old, new)
    return code


def test_schedule_in_your_own_loop(tmp_path):
    rw.Schedule.random(200, seed=1).save(tmp_path / "s.json")
    code = smaller(BLOCKS[0], {'"rcifar10_16_wrn.txt"': repr(str(tmp_path / "s.json"))})
    images = torch.randint(0, 256, (5, 32, 32, 3), dtype=torch.uint8)
    names = {"images": images, "epoch": 150, "ids": torch.arange(5)}
    exec(code, names)
    assert names["images"].shape == images.shape
    assert names["images"].dtype == torch.uint8


def test_your_own_pair_of_networks(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    teacher = networks.build("cnn-tiny", num_classes=10)
    names = {"teacher": teacher}
    fewer = "train_images=128, validation_images=64, batch_size=64, workers=1"
    code = smaller(
        BLOCKS[1],
        {
            'rw.load_data("cifar100", root="~/data")': 'rw.load_data("digits")',
            '"layer1", "layer2", "layer3", "layer4"': '"layer1", "layer2", "layer3"',
            "weight=0.4)": "weight=0.4, prepare_epochs=1)",
            "population=16, epochs=200": f"population=4, epochs=4, {fewer}",
            "epochs=200": "epochs=4, batch_size=64",
        },
    )
    with torch_threads(1):
        exec(code, names)
        assert 0 < float(capsys.readouterr().out) <= 1
        assert len(names["a_s"]) == 4
        exec(BLOCKS[2], names)
        assert (tmp_path / "student.onnx").stat().st_size > 1000
        digits = names["data"].test.images[:8].permute(0, 3, 1, 2).float() / 255
        assert names["student"](digits).shape == (8, 10)


def test_commands_and_options_exist():
    commands = {command.name for command in app.registered_commands} | {
        group.name for group in app.registered_groups
    }
    named = set(re.findall(r"^    rolewise (\w+)", README, re.MULTILINE)) | set(
        re.findall(r"`rolewise (\w+)", README)
    )
    assert len(named) >= 8
    assert named <= commands


def test_figures_are_those_of_the_results():
    exact = json.loads((ROOT / "benchmarks" / "results" / "exact.json").read_text("utf-8"))["figures"]
    kinds = [kind for version in exact.values() for kind in version.values()]
    assert f"{sum(kind['compared'] for kind in kinds):,} images compared" in README
    assert not any(kind["differ"] for kind in kinds)
    versions = [version.removeprefix("Pillow ").rsplit(".", 1)[0] for version in exact]
    assert f"Pillow {', '.join(versions[:-1])} and {versions[-1]}" in README
    assert f"Each of the {len(rw.kd.LOSSES)} losses" in README
    export = (ROOT / "docs" / "export.md").read_text("utf-8")
    for bits, factor in re.findall(
        r"a (\d)-bit .*?([\d.]+)(?: times smaller|\s*\()", " ".join(README.split()).lower()
    ):
        assert re.search(rf"{bits}-bit weights \|.*\| {factor} \|", export), (bits, factor)


def test_the_demo_is_what_was_measured():
    """The table, the study's sentence and the picture's caption, against what is kept in results/demo."""
    rows = json.loads((ROOT / "results" / "demo" / "results.json").read_text("utf-8"))["rows"]
    table = re.findall(r"│ ((?:Teacher|Student).*?) *│.*?([\d.]+) % │", README)
    assert [float(accuracy) for _, accuracy in table] == [round(100 * row["accuracy"], 2) for row in rows]
    lines = (ROOT / "results" / "demo" / "study.jsonl").read_text("utf-8").splitlines()
    study = [json.loads(line) for line in lines]
    settings = list(dict.fromkeys((row["images"], row["epochs"]) for row in study))
    shown = re.findall(
        r"^\| (\d+), (\d+) \| (.*) % \| (.*) % \| (.*) % \| (.*) \+- (.*) points \|$", README, re.MULTILINE
    )
    assert len(shown) == len(settings) == 2
    assert "5 seeds each" in README
    arms = ("student", "student, ii-kd", "student, ii-kd, TrivialAugment")
    for (images, epochs), row in zip(settings, shown, strict=True):
        found = [one["accuracy"] for one in study if (one["images"], one["epochs"]) == (images, epochs)]
        assert len(found) == 5
        plain, kd, both = (np.array([one[arm] for one in found]) for arm in arms)
        low, high = stats.ttest_rel(both, plain).confidence_interval(0.95)
        expected = [plain.mean(), kd.mean(), both.mean(), (low + high) / 2, (high - low) / 2]
        assert row == (str(images), str(epochs), *(f"{100 * value:.1f}" for value in expected))


def test_the_study_is_what_was_measured():
    """Every number of its paragraph and table, against its raw results and SciPy's paired t interval."""
    accuracy: dict[tuple[str, str], dict[int, float]] = {}
    for cell in json.loads((ROOT / "results" / "study" / "results.json").read_text("utf-8"))["cells"]:
        if cell["accuracy"] is not None:
            of_seeds = accuracy.setdefault((cell["row"], cell["column"]), {})
            of_seeds[cell["seed"]] = 100 * cell["accuracy"]
    bits = ("4 bit, soft labels", "2 bit, soft labels")

    def difference(one, other, column, against=None, seeds=5):
        others = accuracy[other, against or column]
        pairs = [(value, others[seed]) for seed, value in accuracy[one, column].items()]
        assert len(pairs) == seeds
        ours, theirs = np.array(pairs).T
        low, high = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
        return f"{(ours - theirs).mean():+.2f} [{low:+.2f}, {high:+.2f}]"

    section = README.partition("## What a study found")[2].partition("\n## ")[0]
    rows = {
        "A_S, the student's own": "KD + A_S", "A_T, the teacher's": "KD + A_T",
        "A_S in random order": "KD + A_S shuffled", "random policies": "KD + random",
        "RandAugment": "KD + RandAugment", "TrivialAugment": "KD + TrivialAugment",
    }  # fmt: skip
    for title, row in rows.items():
        numbers = [difference(row, "KD, no schedule", column) for column in bits]
        assert f"| {title} | {numbers[0]} | {numbers[1]} |" in section
    said = [difference("Teacher + A_T", "Teacher, no schedule", "32 bit")]
    for one, other in (
        ("KD, no schedule", "No KD, no schedule, from scratch"),
        ("KD, no schedule", "No KD, no schedule, teacher's weights"),
        ("KD + A_S", "KD + A_T"),
    ):
        said += [difference(one, other, column) for column in bits]
    number = r"[+-]\d+\.\d\d \[[+-]\d+\.\d\d, [+-]\d+\.\d\d\]"
    text = " ".join(section.partition("\n|")[0].split())
    assert re.findall(number, text) == said
    for title, one, other, soft in (
        (
            "distillation above the same start without it",
            "KD, no schedule",
            "No KD, no schedule, teacher's weights",
            True,
        ),
        ("A_S above no schedule", "KD + A_S", "KD, no schedule", False),
        ("RandAugment above no schedule", "KD + RandAugment", "KD, no schedule", False),
        ("A_S above A_T", "KD + A_S", "KD + A_T", False),
        ("II-KD above soft labels, each with its A_S", "KD + A_S", "KD + A_S", True),
    ):
        columns = [(column.replace("soft labels", "II-KD"), column) for column in bits]
        numbers = [difference(one, other, ours, soft and theirs, seeds=3) for ours, theirs in columns]
        assert f"| {title} | {numbers[0]} | {numbers[1]} |" in section


@pytest.mark.parametrize("picture", re.findall(r"!\[.*?\]\((.*?)\)", README))
def test_pictures_are_small(picture):
    assert 1_000 < (ROOT / picture).stat().st_size < 200_000


def test_links_lead_somewhere():
    links = [link for link in re.findall(r"\]\(([^)#\s]+)\)", README) if not link.startswith("http")]
    assert len(links) > 10
    for link in links:
        assert (ROOT / link).exists(), link


@pytest.mark.parametrize("preset", re.findall(r"--preset ([\w-]+)", README))
def test_presets_exist(preset):
    from rolewise.config import PRESETS

    assert preset in PRESETS
