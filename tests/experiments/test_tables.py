"""The paper's numbers against its text, and what cells share."""

import re
from collections import Counter

import pytest

from rolewise.errors import InputError
from rolewise.experiments.plan import all_cells, plan, select, training, with_arms
from rolewise.experiments.sentences import CLAIMS
from rolewise.experiments.tables import TABLES
from rolewise.kd import LOSSES
from rolewise.networks import NETWORKS


def after(text: str, first: str, count: int) -> list[float]:
    """The next numbers of two digits and two decimals."""
    found = re.findall(r"\d\d\.\d\d", text[text.index(first) :])
    return [float(number) for number in found[:count]]


def test_numbers_are_those_of_the_papers_text(shared):
    text = (shared / "reference" / "paper.txt").read_text("utf-8")
    numbers = {name: [cell.paper for cell in cells] for name, cells in TABLES.items()}
    # The text has table 1 by columns, table 2 by columns with its upper and lower half apart.
    table1 = after(text, "70.48", 12)
    assert numbers["table1"] == table1[0::2] + table1[1::2]
    table2 = after(text, "90.58", 40)
    upper, lower = table2[:24], table2[24:]
    rows = [upper[row::6] for row in range(6)] + [lower[row::4] for row in range(4)]
    assert numbers["table2"] == [number for row in rows for number in row]
    assert numbers["table3"] == after(text, "61.61", 12)
    assert numbers["table4"] == after(text, "74.31", 4)


def test_23_searches_serve_all_tables():
    work = plan(select(["table1", "table2", "table3", "table4", "figure3"]), [0])
    assert Counter(one.kind for one in work) == {"search": 23, "train": 62}
    assert len({one.name for one in work}) == len(work)


def test_what_is_needed_comes_first():
    for targets in (["all"], ["table3"]):
        seen: set[str] = set()
        for one in plan(select(targets), [0, 1]):
            assert set(one.needs) <= seen
            seen.add(one.name)


def test_every_seed_is_complete_before_the_next():
    seeds = [one.seed for one in plan(select(["study"]), range(3))]
    assert seeds == sorted(seeds)


def test_ids_are_unique_and_name_things_that_exist():
    cells = [cell for name, cells in all_cells().items() if name != "figure3" for cell in cells]
    assert len({cell.id for cell in cells}) == len(cells) == 68 + 34
    for cell in cells:
        assert cell.setup.network in NETWORKS
        assert cell.setup.loss in {"none", *LOSSES}


def test_the_student_after_stage_beta_is_one_run_in_three_tables():
    names = {
        training(cell.setup, 0).name
        for cells in TABLES.values()
        for cell in cells
        if cell.id.endswith("cifar100/resnet18/w4a4/ii-kd/a_s")
    }
    assert len(names) == 1


def test_the_teachers_schedule_comes_from_cifar10():
    cell = select(["table2"], ["cifar100/resnet18/fp32/no-kd/a_t"])[0]
    assert training(cell.setup, 3).searched == "seed3/search-cifar10-resnet18-teacher"


def test_claims_are_about_cells_that_exist():
    known = {cell.id for cells in all_cells().values() for cell in cells}
    named = {
        quantity.cell
        for claim in CLAIMS
        for comparison in claim.comparisons
        for quantity in (*comparison.plus, *comparison.minus)
    }
    assert named <= known
    assert {claim.name for claim in CLAIMS if claim.scope == "paper"} == {
        "distillation", "own-schedule", "ii-kd", "stage-beta", "stage-alpha", "four-bits", "figure3",
    }  # fmt: skip


def test_only_narrows_down():
    cells = select(["all"], ["cifar100/resnet18/w4a4"])
    assert {cell.table for cell in cells} == {"table1", "table2", "table3"}
    assert all("/cifar100/resnet18/w4a4/" in cell.id for cell in cells)
    assert len(select(["table3"], ["*/mhgd"])) == 4


def test_unknown_names_are_answered_with_the_nearest():
    with pytest.raises(InputError, match=r'Unknown table "table5".*Did you mean "table'):
        select(["table5"])
    with pytest.raises(InputError, match=r'Unknown cell "cifar100/resnet81/w4a4".*Known: '):
        select(["table1"], ["cifar100/resnet81/w4a4"])
    with pytest.raises(InputError, match=r'Unknown arm "radnom".*Did you mean "random"'):
        with_arms(select(["table1"]), ["radnom"])


def test_further_arms_leave_everything_but_the_schedule():
    cells = with_arms(select(["table3"], ["alexnet/w4a4/dml"]), ["none", "random", "a_t"])
    assert [cell.setup.schedule for cell in cells] == [
        "a_t",
        "none",
        "random",
        "a_s",
        "none",
        "random",
        "a_t",
    ]
    assert {cell.setup.under("none") for cell in cells} == {cells[0].setup.under("none")}
    # A teacher has no A_S, and so no shuffled one.
    teacher = with_arms(select(["table2"], ["resnet18/fp32/no-kd/a_t"]), ["a_s", "shuffled", "random"])
    assert {cell.setup.schedule for cell in teacher} == {"a_t", "random"}
