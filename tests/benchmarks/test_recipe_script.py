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
    assert found["strong-cosine"].elements == ("cutmix",)
    assert found["strong"].against == found["paper+ema"].against == "paper"
    assert found["strong+ema"].against == "strong"
    own = {"schedule", "task_weight", "teacher_bits"}
    for changes in recipe.ELEMENTS.values():
        assert set(changes) <= {*field_names(TrainRecipe), *own}


def test_the_strong_recipe_is_that_of_the_presets():
    from rolewise.config import PRESETS

    changes = next(arm for arm in recipe.arms() if arm.name == "strong").changes()
    strong = {name: preset for name, preset in PRESETS.items() if name.startswith("strong-")}
    assert len(strong) == len([name for name in PRESETS if name.startswith("paper-")]) > 5
    for preset in strong.values():
        assert preset["teacher"]["train"] == preset["student"]["train"] == changes


def test_differences_are_given_in_points():
    """Mean 2, standard deviation 1, three seeds: half the width is t_0.975(2) = 4.303 over sqrt(3)."""
    base = [0.5, 0.7, 0.6]
    better = [one + more for one, more in zip(base, (0.01, 0.02, 0.03), strict=True)]
    assert recipe.in_points(paired_difference(better, base)) == {"mean": 2.0, "low": -0.48, "high": 4.48}
    single = recipe.in_points(paired_difference([0.51], [0.5]))
    assert single == {"mean": 1.0, "low": None, "high": None}


def test_what_the_strong_recipe_is_chosen_by_comes_first():
    found = recipe.cells(argparse.Namespace(only=[], seeds=2, bits=[32, 4, 2]))
    assert len({cell.key for cell in found}) == len(found)
    first = {
        f"{arm}-{bits}bit-seed0"
        for bits in (4, 2)
        for arm in ("paper", *(f"paper+{element}" for element in recipe.ELEMENTS))
    }
    first.remove("paper+lowbit-teacher-4bit-seed0")  # there is none for as many bits
    assert {cell.key for cell in found[: len(first)]} == first
    rest = found[len(first) :]
    asked = [cell for cell in rest if cell.arm.against == "strong" and cell.bits < 32]
    others = [cell for cell in rest if cell.arm.name.startswith("paper+")]
    others += [cell for cell in rest if cell.arm.against == "strong" and cell.bits == 32]
    assert max(map(rest.index, asked)) < min(map(rest.index, others))


def test_it_runs_and_resumes(tmp_path, capsys, monkeypatch):
    results = tmp_path / "results" / "ablation.json"
    options = [
        "--smoke",
        "--out",
        str(tmp_path / "runs"),
        "--results",
        str(results),
        "--epochs",
        "2",
        "--seeds",
        "2",
    ]
    options += ["--bits", "2", "--only", "ema"]
    recipe.main(options)
    out = capsys.readouterr().out
    rows = json.loads(results.read_text())["rows"]
    assert [row["arm"] for row in rows] == ["paper", "strong", "paper+ema", "strong+ema"]
    assert {row["n"] for row in rows} == {2}
    kept = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "runs").glob("*.json")}
    assert "paper-32bit-seed0" in kept  # the teacher
    for row in rows:
        name = f"{row['arm']}-2bit-seed"
        values = [kept[name + seed]["averaged"] or kept[name + seed]["accuracy"] for seed in "01"]
        assert row["accuracy"] == pytest.approx(100 * sum(values) / 2, abs=0.01)
        held = [kept[name + seed]["averaged_held_out"] or kept[name + seed]["held_out"] for seed in "01"]
        assert row["held_out"] == pytest.approx(100 * sum(held) / 2, abs=0.01)
        assert (kept[name + "0"]["averaged"] is not None) == ("ema" in name)
    monkeypatch.setattr(recipe.rw, "train", lambda *_, **__: pytest.fail("trained again"))
    recipe.main(options)
    assert capsys.readouterr().out == out
    recipe.main([*options, "--plan"])
    assert capsys.readouterr().out.startswith("8 trainings, 8 of them done: ")
