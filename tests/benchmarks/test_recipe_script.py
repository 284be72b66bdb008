"""The ablation at its smallest: it trains, pairs, records, and a second call trains nothing again."""

import argparse
import json

import pytest
import recipe

from rolewise.experiments.statistics import paired_difference
from rolewise.settings import TrainRecipe, field_names


def test_arms_add_to_the_paper_and_take_from_the_strong_recipe():
    found = {arm.name: arm for arm in recipe.arms()}
    assert len(found) == len(recipe.arms())
    assert found["paper+cosine"].elements == ("cosine",)
    assert [found["strong"].at(bits) for bits in (32, 4)] == [("cosine",), ("cosine", "ema", "smoothing")]
    assert found["strong-cosine"].at(2) == ("ema", "smoothing")
    assert recipe.Cell(found["strong-cosine"], 32, 0).key == "paper-32bit-seed0"
    assert recipe.Cell(found["strong+ema"], 32, 0).key == "cosine+ema-32bit-seed0"
    assert recipe.Cell(found["strong-smoothing+clip"], 4, 0).key == "cosine+ema+clip-4bit-seed0"
    assert recipe.Cell(found["strong+clip"], 4, 0).key == "cosine+smoothing+ema+clip-4bit-seed0"
    assert {*found["strong+last"].at(4)} == {"cosine", "smoothing", "last"}  # a training has one average
    assert found["strong"].against == found["paper+ema"].against == "paper"
    assert found["strong+clip"].against == "strong"
    own = {"schedule", "task_weight", "teacher_bits"}
    for changes in recipe.ELEMENTS.values():
        assert set(changes) <= {*field_names(TrainRecipe), *own}


def test_the_strong_recipe_is_that_of_the_presets():
    from rolewise.config import PRESETS

    strong = next(arm for arm in recipe.arms() if arm.name == "strong")
    changes = {bits: recipe.Cell(strong, bits, 0).changes() for bits in (32, 4, 2)}
    assert changes[32] == {"lr_schedule": "cosine"}
    assert changes[4] == changes[2] == {**changes[32], "ema_decay": 0.998, "label_smoothing": 0.1}
    presets = [preset for name, preset in PRESETS.items() if name.startswith("strong-")]
    assert len(presets) == len([name for name in PRESETS if name.startswith("paper-")]) > 5
    for preset in presets:
        assert preset["teacher"]["train"] == changes[32]
        assert preset["student"]["train"] == changes[preset["student"]["weight_bits"]]
    assert {preset["student"]["weight_bits"] for preset in presets} == {32, 4, 2}


def test_differences_are_given_in_points():
    """Mean 2, standard deviation 1, three seeds: half the width is t_0.975(2) = 4.303 over sqrt(3)."""
    base = [0.5, 0.7, 0.6]
    better = [one + more for one, more in zip(base, (0.01, 0.02, 0.03), strict=True)]
    assert recipe.in_points(paired_difference(better, base)) == {"mean": 2.0, "low": -0.48, "high": 4.48}
    single = recipe.in_points(paired_difference([0.51], [0.5]))
    assert single == {"mean": 1.0, "low": None, "high": None}


def test_what_the_strong_recipe_is_chosen_by_comes_first():
    found = recipe.cells(argparse.Namespace(only=[], seeds=2, confirm=1, bits=[32, 4, 2]))
    assert len({(cell.arm.name, cell.bits, cell.seed) for cell in found}) == len(found)
    first = {
        (arm, bits)
        for bits in (4, 2)
        for arm in ("paper", *(f"paper+{element}" for element in recipe.ELEMENTS))
    }
    first.remove(("paper+lowbit-teacher", 4))  # there is none for as many bits
    assert {(cell.arm.name, cell.bits) for cell in found[: len(first)]} == first
    assert {cell.seed for cell in found[: len(first)]} == {0}
    rest = found[len(first) :]
    asked = [cell for cell in rest if cell.arm.against == "strong" and cell.bits < 32]
    others = [cell for cell in rest if cell.arm.name.startswith("paper+")]
    others += [
        cell
        for cell in rest
        if cell.arm.against == "strong" and cell.bits == 32 and cell.arm.name not in recipe.CONFIRMED
    ]
    # Seeds that chose nothing confirm the choice.
    confirming = [cell for cell in rest if cell.seed == 2]
    assert {(cell.arm.name, cell.bits) for cell in confirming} == {
        (arm, bits) for arm in ("paper", "strong", "strong-ema") for bits in (32, 4, 2)
    } - {("strong-ema", 32)} | {("strong+ema", 32)}
    assert max(map(rest.index, asked + confirming)) < min(map(rest.index, others))
    assert {
        cell.seed for cell in recipe.cells(argparse.Namespace(only=["clip"], seeds=2, confirm=1, bits=[4]))
    } == {0, 1}


def test_seeds_that_confirm_are_kept_apart():
    """From accuracies that say which seed and arm they are of."""
    options = argparse.Namespace(only=[], seeds=2, confirm=2, bits=[4])

    def result(cell):
        share = cell.seed / 10 + ("ema" in cell.elements) / 100
        return {
            "seed": cell.seed,
            "accuracy": share,
            "held_out": share,
            "averaged": None,
            "averaged_held_out": None,
        }

    found = recipe.results(argparse.Namespace(options=options, result=result), recipe.cells(options))
    assert [row["arm"] for row in found["confirmation"]] == ["paper", "strong", "strong-ema"]
    for part, seeds in (("rows", [0, 1]), ("confirmation", [2, 3])):
        strong = next(row for row in found[part] if row["arm"] == "strong")
        assert strong["seeds"] == seeds
        assert strong["accuracy_of_seeds"] == [10 * seed + 1 for seed in seeds]
        assert strong["accuracy_of_its_base"] == [10 * seed for seed in seeds]
        assert strong["accuracy_difference"]["mean"] == 1
    assert "| strong | 4 | 2, 3 | 26.00 | paper |" in recipe.table(found)


OPTIONS = ["--smoke", "--epochs", "2", "--seeds", "2", "--bits", "2"]


def call(folder, *more):
    """Results, and what each training gave."""
    results = folder / "results" / "ablation.json"
    recipe.main([*OPTIONS, "--out", str(folder / "runs"), "--results", str(results), *more])
    kept = {path.stem: json.loads(path.read_text("utf-8")) for path in (folder / "runs").glob("*.json")}
    return json.loads(results.read_text("utf-8")), kept


def test_it_runs_and_resumes(tmp_path, capsys, monkeypatch):
    content, kept = call(tmp_path, "--only", "ema")
    out = capsys.readouterr().out
    # Two trainings of each seed are six arms: averaging is one, the last weights another.
    files = {
        "paper": ("ema", False),
        "strong": ("cosine+smoothing+ema", True),
        "paper+ema": ("ema", True),
        "strong-ema": ("cosine+smoothing+ema", False),
    }
    assert [row["arm"] for row in content["rows"]] == [*files]
    names = {
        f"{name}-seed{seed}"
        for name in ("paper-32bit", "ema-2bit", "cosine+smoothing+ema-2bit")
        for seed in "01"
    }
    assert kept.keys() == {*names, "paper-2bit-seed1"}  # asked for before that seed's averaging
    assert content["strong"] == ["cosine", "ema", "smoothing"]
    for row in content["rows"]:
        training, averaged = files[row["arm"]]
        for images, field in (("accuracy", "averaged"), ("held_out", "averaged_held_out")):
            values = [
                kept[f"{training}-2bit-seed{seed}"][field if averaged else images] for seed in row["seeds"]
            ]
            assert row[f"{images}_of_seeds"] == pytest.approx([100 * one for one in values], abs=0.01)
            assert row[images] == pytest.approx(100 * sum(values) / 2, abs=0.01)
    monkeypatch.setattr(recipe.rw, "train", lambda *_, **__: pytest.fail("trained again"))
    call(tmp_path, "--only", "ema")
    assert capsys.readouterr().out == out
    call(tmp_path, "--only", "ema", "--plan")
    assert capsys.readouterr().out.startswith("8 trainings, 8 of them done: ")


def test_averaging_leaves_the_training_as_it_is(tmp_path):
    """What lets an arm take the last weights of one that averages; a student too, whose teacher is such a one."""
    shared, _ = call(tmp_path / "one", "--only", "ema", "--seeds", "1")
    alone, kept = call(tmp_path / "two", "--only", "cosine", "--seeds", "1")
    assert "paper-2bit-seed0" in kept
    for arm in ("paper", "strong"):
        one, other = (
            next(row for row in content["rows"] if row["arm"] == arm) for content in (shared, alone)
        )
        assert one == other
