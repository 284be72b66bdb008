"""Committed results say where they come from, and the page that quotes them quotes them rightly."""

import ast
import json
import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
import run_all

from rolewise.kd import LOSSES

ROOT = Path(__file__).resolve().parents[2]
RESULTS = sorted((ROOT / "benchmarks" / "results").glob("*.json"))


def test_there_are_results():
    assert {path.stem for path in RESULTS} >= {"augment", "exact", "kd", "quant", "step"}


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_a_result_carries_its_origin(path):
    result = json.loads(path.read_text("utf-8"))
    environment = result["environment"]
    assert re.fullmatch(r"[0-9a-f]{40}\+?", environment["commit"])
    assert environment["hardware"]["cpu"]
    assert environment["hardware"]["cores"] >= 1
    assert {"python", "torch", "numpy"} <= set(environment["versions"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", result["measured"])
    assert result["command"].startswith(("python benchmarks/", "make exact", "make soak"))
    assert not re.search(r"/(root|home|opt|tmp|work)/", path.read_text("utf-8"))
    assert result["figures"]


def test_the_page_is_what_the_results_give(tmp_path):
    """Redrawn in a copy, it must equal the committed file."""
    for folder in ("benchmarks", "docs"):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                target = tmp_path / path.relative_to(ROOT)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(path.read_bytes())
    subprocess.run(
        [sys.executable, str(tmp_path / "benchmarks" / "page.py")], check=True, capture_output=True
    )
    name = Path("docs") / "performance.md"
    assert (tmp_path / name).read_text("utf-8") == (ROOT / name).read_text("utf-8")


def test_the_costs_on_the_page_of_losses_are_the_recorded_ones(tmp_path, monkeypatch):
    """Written again into a page that has others; nothing else of it changes."""
    import kd

    page = (ROOT / "docs" / "losses.md").read_text("utf-8")
    rows = re.compile(r"^(\| `[\w-]+` \|.*)\| (?:< 0\.1|[\d.]+) % \|([^|]*\|)$", re.MULTILINE)
    other, count = rows.subn(r"\1| 99.9 % |\2", page)
    assert count == len(LOSSES)
    (tmp_path / "losses.md").write_text(other, "utf-8")
    monkeypatch.setattr(kd, "DOCS", tmp_path / "losses.md")
    kd.write_docs()
    assert (tmp_path / "losses.md").read_text("utf-8") == page


def test_the_numbers_on_the_page_of_augmentation_are_the_recorded_ones():
    """Each row: microseconds of ours, of the other side, their ratio."""
    page = (ROOT / "docs" / "augmentation.md").read_text("utf-8")
    figures = json.loads((ROOT / "benchmarks" / "results" / "augment.json").read_text("utf-8"))["figures"]
    rows = re.findall(r"^\| ops,.* \| ([\d.]+) \| .*? (\d+) us \| ([\d.]+) \|$", page, re.MULTILINE)
    names = ("ops 32x32, against lean Pillow", "ops 224x224, against lean Pillow",
             "whole path to float32, against the published functions")  # fmt: skip
    for name, row in zip(names, rows, strict=True):
        sides = [
            figures[name][side]["median"] for side in ("ours us/image", "rival us/image", "rival / ours")
        ]
        assert [float(value) for value in row] == pytest.approx(sides, rel=0.02), name


def test_what_the_page_of_quantization_says_of_bfloat16_is_what_was_measured():
    """The paired differences with Student's t from SciPy, from the accuracies of every seed."""
    stats = pytest.importorskip("scipy.stats", reason="needs SciPy")
    page = (ROOT / "docs" / "quantization.md").read_text("utf-8")
    rows = json.loads((ROOT / "results" / "precision" / "training.json").read_text("utf-8"))["rows"]
    assert [row["bits"] for row in rows] == [32, 4, 2]
    for row in rows:
        assert len(row["fp32"]) == len(row["bf16"]) == 5
        change = [100 * (low - high) for low, high in zip(row["bf16"], row["fp32"], strict=True)]
        low, high = stats.t.interval(0.95, 4, statistics.mean(change), stats.sem(change))
        means = (f"{100 * statistics.mean(row[name]):.2f} %" for name in ("fp32", "bf16"))
        difference = f"{statistics.mean(change):+.2f} ({low:+.2f} to {high:+.2f})"
        assert " | ".join((f"| {row['bits']}", *means, f"{difference} |")) in page
        assert low < 0 < high  # what the page concludes from it


def test_the_ablation_of_the_recipe_is_what_its_page_says(tmp_path, monkeypatch):
    """The tables redrawn; the paired differences with Student's t from SciPy, from the accuracies of every seed."""
    import recipe
    import recipe_page

    stats = pytest.importorskip("scipy.stats", reason="needs SciPy")
    page = ROOT / "docs" / "training.md"
    (tmp_path / "training.md").write_bytes(page.read_bytes())
    monkeypatch.setattr(recipe_page, "PAGE", tmp_path / "training.md")
    recipe_page.main()
    assert (tmp_path / "training.md").read_bytes() == page.read_bytes()
    content = json.loads((ROOT / "results" / "recipe" / "ablation.json").read_text("utf-8"))
    rows, confirmation = (
        {(row["arm"], row["bits"]): row for row in content[part]} for part in ("rows", "confirmation")
    )
    assert content["elements"] == json.loads(json.dumps(recipe.ELEMENTS))
    checked = 0
    for part, seeds in ((rows, {0, 1, 2}), (confirmation, {3, 4, 5})):
        for (arm, bits), row in part.items():
            assert len(row["accuracy_of_seeds"]) == len(row["held_out_of_seeds"]) == row["n"]
            assert {*row["seeds"]} <= seeds
            for images in ("accuracy", "held_out"):
                found = row[f"{images}_difference"]
                if arm == row["against"]:
                    assert found is None
                    continue
                other = part[row["against"], bits]
                base = dict(zip(other["seeds"], other[f"{images}_of_seeds"], strict=True))
                mine = dict(zip(row["seeds"], row[f"{images}_of_seeds"], strict=True))
                assert row[f"{images}_of_its_base"] == [base[seed] for seed in mine]
                # Nothing is compared with itself.
                assert row[f"{images}_of_seeds"] != row[f"{images}_of_its_base"]
                change = [mine[seed] - base[seed] for seed in mine]
                assert found["mean"] == pytest.approx(statistics.mean(change), abs=0.011), (arm, bits)
                if row["n"] > 1:
                    ends = stats.t.interval(0.95, row["n"] - 1, statistics.mean(change), stats.sem(change))
                    assert (found["low"], found["high"]) == pytest.approx(ends, abs=0.05), (arm, bits)
                    checked += 1
    assert checked > 60
    for bits in (32, 4, 2):  # what the page and the README conclude
        for part in (rows, confirmation):
            assert part["strong", bits]["accuracy_difference"]["low"] > 0
            assert part["strong", bits]["n"] == 3
    readme = " ".join((ROOT / "README.md").read_text("utf-8").split())
    gains = [f"{confirmation['strong', bits]['accuracy_difference']['mean']:.1f}" for bits in (32, 4, 2)]
    assert "by {}, {} and {} points at 32, 4 and 2 bits".format(*gains) in readme
    # The rule by which the strong recipe was chosen; a schedule takes the place of one that is searched.
    assert content["strong"] == [*recipe.STRONG]
    settings = [name for name, changes in recipe.ELEMENTS.items() if "schedule" not in changes]
    first = rows["paper", 4]["held_out_of_seeds"][0]
    at_four_bits = [name for name in settings if recipe.BELOW.get(name, 33) > 4]
    chosen = [
        name for name in at_four_bits if rows[f"paper+{name}", 4]["held_out_of_seeds"][0] - first >= 0.5
    ]
    assert chosen == ["cosine"]

    def held_out(arm, bits):
        assert rows[arm, bits]["n"] == 3
        return rows[arm, bits]["held_out_difference"]["mean"]

    second, third = recipe.STRONG[1:]
    fewer = f"strong-{third}"  # the first two
    on_the_first = [
        statistics.mean(rows[fewer, bits]["held_out_of_seeds"])
        - statistics.mean(rows["paper+cosine", bits]["held_out_of_seeds"])
        for bits in (4, 2)
    ]
    assert (second, rows["paper+cosine", 2]["n"]) == ("ema", 3)
    assert statistics.mean(on_the_first) >= 0.25
    for name in recipe.STRONG:
        assert -statistics.mean(held_out(f"strong-{name}", bits) for bits in (4, 2)) >= 0.25
    for name in recipe.RIVALS:
        assert held_out(f"{fewer}+{name}", 4) < 0.25 < -held_out(fewer, 4)
    outside = [name for name in settings if name not in recipe.STRONG]
    for name in outside:
        # Nothing that was measured for both bits would be the next to come in.
        both = [bits for bits in (4, 2) if recipe.BELOW.get(name, 33) > bits]
        assert statistics.mean(held_out(f"strong+{name}", bits) for bits in both) < 0.25, name


def test_the_row_on_a_gpu_is_the_recorded_one():
    row = json.loads((ROOT / "results" / "gpu" / "row.json").read_text("utf-8"))
    figures = {name.removeprefix("row: "): found for name, found in row["figures"].items()}
    assert row["environment"]["hardware"]["gpus"]
    page = (ROOT / "docs" / "experiments.md").read_text("utf-8")
    for line, unit in (
        ("teacher, under A_T", "teacher"),
        ("student, KD only", "KD only"),
        ("student, KD and A_S", "A_S"),
        ("student, KD and A_T", "A_T"),
        ("student, KD and a random schedule", "random"),
        ("student, without KD", "plain"),
    ):
        second = figures.get(f"{unit}, second seed")
        cells = f"{100 * figures[unit]['accuracy']:.2f}", f"{100 * second['accuracy']:.2f} " if second else ""
        assert f"| {line} | {cells[0]} | {cells[1]}|\n" in page
        assert figures[unit]["n"] == 10_000
        assert figures[unit]["stayed eager"] == []
    # What the page concludes from them.
    for search in ("search alpha", "search beta"):
        assert figures[search]["best"] not in {
            move[1] for move in figures[search]["moves (epoch, target, source)"]
        }
        assert all(not any(entry[1:]) for entry in figures[search]["schedule"]["policies"][0]["settings"])
    assert figures["KD only"]["loss"] == figures["A_S"]["loss"] == figures["A_T"]["loss"]
    assert sum(found["seconds"] for found in figures.values()) < 360


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda path: path.stem)
def test_the_commands_of_a_benchmark_have_its_options(path):
    """Those of its docstring; nothing is run."""
    tree = ast.parse(path.read_text("utf-8"))
    known = options(tree)
    if any(isinstance(node, ast.Name) and node.id == "training_parser" for node in ast.walk(tree)):
        known |= options(ast.parse((ROOT / "benchmarks" / "common.py").read_text("utf-8")))
    words = (ast.get_docstring(tree) or "").replace("\\\n", " ")
    commands = re.findall(r"python3? (benchmarks/\S+)([^#`\n]*)", words)
    for file, rest in commands:
        assert file == f"benchmarks/{path.name}"
        assert set(re.findall(r"--[\w-]+", rest)) <= known
    assert commands or path.name not in [command[0] for command in run_all.BENCHMARKS.values()]


def options(tree):
    """What `add_argument` is called with."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    added = [call for call in calls if getattr(call.func, "attr", "") == "add_argument"]
    return {one.value for call in added for one in call.args if isinstance(one, ast.Constant)}
