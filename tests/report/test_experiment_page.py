"""Every output of an experiment from made runs: the same numbers everywhere, and gaps that are seen."""

import csv
import html
import io
import json
import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest
import yaml
from made_runs import make_runs

from rolewise.experiments.plan import plan, select
from rolewise.experiments.recipes import Options
from rolewise.experiments.results import collect
from rolewise.experiments.sentences import verdicts
from rolewise.experiments.site import Site
from rolewise.experiments.tabulate import arm_groups
from rolewise.report import write_experiment
from rolewise.report.arms_plot import arms_plot
from rolewise.report.experiment_words import Commands, sentences
from rolewise.report.theme import Theme

COMMANDS = Commands(
    [("All", "rolewise reproduce study --out x")],
    [(f"piece{k}", f"rolewise train --config {k}") for k in range(3)],
)
ACCURACY = {"none": 0.50, "a_t": 0.54, "a_s": 0.56, "random": 0.52}
SEEDS = range(2)


def accuracy(one):
    return ACCURACY.get(one.setup.schedule, 0.51) + 0.002 * one.seed


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """The study with soft labels run, II-KD missing, and one failed run; table 1 not run at all."""
    site = Site(tmp_path_factory.mktemp("experiment") / "out", Options(scale=0.5))
    cells = select(["study"]) + select(["table1"], ["w4a4"])
    work = plan(cells, SEEDS)
    make_runs(site, list(plan(select(["study"], ["soft", "no-kd", "teacher"]), SEEDS)), accuracy)
    broken = next(one for one in work if one.setup.loss == "ii-kd" and one.kind == "train")
    site.note_failure(broken, ValueError("<b>disk</b> & co"))
    return collect(site, dict.fromkeys(cells, SEEDS), work)


@pytest.fixture(scope="module")
def folder(results, tmp_path_factory):
    path = tmp_path_factory.mktemp("report")
    write_experiment(results, path, title="A <title>", commands=COMMANDS)
    return path


def test_figure_3_shows_both_schedules_of_the_first_seed_that_has_both(tmp_path):
    """The teacher's search of seed 0 is there; the student's begins with seed 1."""
    site = Site(tmp_path / "out", Options(scale=0.5))
    cells = select(["study"], ["soft", "teacher"])
    work = plan(cells, SEEDS)
    make_runs(site, [one for one in work if one.role == "teacher" or one.seed == 1], accuracy)
    write_experiment(collect(site, dict.fromkeys(cells, SEEDS), work), tmp_path / "report")
    page = (tmp_path / "report" / "report.html").read_text("utf-8")
    shown = re.findall(r"<h3>((?:Teacher, A_T|Student, A_S): [^<]*)</h3>", page)
    assert shown == ["Teacher, A_T: cifar10, 32 bit, seed 1", "Student, A_S: cifar10, 4 bit, seed 1"]


def test_the_summary_counts_cells_and_names_few_undecided_claims(results):
    found = verdicts(results)
    undecided = [one.claim.sentence for one in found if one.state == "undecided"]
    lead, *rest = sentences(results, found)
    complete = sum(not one.missing for one in results.cells)
    assert lead.startswith(
        f"{complete} of {len(results.cells)} cells have results, {complete} of them of all their"
    )
    assert 0 < len(undecided) <= 6
    assert f"Undecided: {'; '.join(undecided)}." in rest
    many = tuple(replace(found[0], state="undecided") for _ in range(7))
    assert "Undecided: 7 of 7 claims." in sentences(results, many)
    whole = replace(results, cells=tuple(one for one in results.cells if not one.missing))
    assert sentences(whole, ())[0] == f"All {complete} cells have results of all their seeds (scale 0.5)."


def test_the_commands_of_pieces_are_folded(folder):
    for name in ("report.html", "README.md"):
        page = (folder / name).read_text()
        shown, _, rest = page.partition("<summary>Each of its 3 pieces alone</summary>")
        hidden = rest.partition("</details>")[0]
        assert "rolewise reproduce study --out x" in shown
        assert [f"rolewise train --config {k}" in hidden for k in range(3)] == [True] * 3
        assert "piece0" not in shown


def test_the_same_mean_is_in_every_output(folder):
    """The student under its own schedule: 56.0 and 56.2."""
    page = (folder / "report.html").read_text()
    text = (folder / "README.md").read_text()
    latex = (folder / "tables.tex").read_text()
    assert "<b>56.10 ± 0.14</b>" in page
    assert "56.10 ± 0.14 (n = 2 of 2, 54.83–57.37)" in text
    assert r"56.10 $\pm$ 0.14" in latex
    models = yaml.safe_load((folder / "model-index.yml").read_text())["Models"]
    own = next(one for one in models if one["Name"] == "study/cifar10/cnn-small/w4a4/soft/a_s")
    assert own["Results"][0]["Metrics"] == {"Top 1 Accuracy": 56.1}
    assert own["Metadata"]["Seeds"] == 2


def test_raw_results_per_seed(folder, results):
    rows = list(csv.DictReader(io.StringIO((folder / "results.csv").read_text())))
    document = json.loads((folder / "results.json").read_text())
    assert len(rows) == len(document["cells"]) == len(results.cells) * 2
    own = [row for row in rows if row["cell"] == "study/cifar10/cnn-small/w4a4/soft/a_s"]
    assert [(row["seed"], float(row["accuracy"])) for row in own] == [
        ("0", 0.56),
        ("1", pytest.approx(0.562)),
    ]
    assert {row["scale"] for row in rows} == {"scale 0.5"}
    assert own[0]["schedule_changes"] == "1"
    assert float(own[0]["schedule_first_epoch"]) == 0.6


def test_missing_cells_are_visibly_missing(folder):
    page, text = (folder / "report.html").read_text(), (folder / "README.md").read_text()
    assert page.count('class="num gap"') >= 12
    assert "<span>not run</span><small>paper 74.21</small>" in page
    assert "*not run*; paper 74.21" in text
    assert "<span>failed</span>" in page
    assert "not run (74.21)" in (folder / "tables.tex").read_text()


def test_texts_of_others_are_escaped(folder):
    page = (folder / "report.html").read_text()
    assert "<b>disk</b>" not in page
    assert html.escape("<b>disk</b> & co") in page
    assert "<h1>A &lt;title&gt;</h1>" in page


def test_verdicts_carry_the_scale(folder):
    page, text = (folder / "report.html").read_text(), (folder / "README.md").read_text()
    assert "(scale 0.5)" in text
    assert "All trainings and searches are shortened (scale 0.5)" in page
    assert re.search(r'class="verdict"[^>]*>not run</span>', page)


def test_the_page_needs_nothing_from_outside(folder):
    page = (folder / "report.html").read_text()
    assert not re.findall(r'(?:src|href)="(?!#)[^"]+"', page)
    assert "@import" not in page
    assert page.count("<svg") >= 4  # the arms wide and narrow, and figure 3
    assert "Student, A_S" in page


def test_the_dot_plot_says_its_numbers(results):
    svg = arms_plot(arm_groups(results), Theme(page=False))
    ElementTree.fromstring(svg)
    found = html.unescape(re.search(r"<desc>(.*?)</desc>", svg, re.DOTALL).group(1))
    assert "cifar10, cnn-small, 4 bit, student, soft: A_S +6.00 [+6.00, +6.00], 2 seeds" in found
    assert arms_plot([], Theme(page=False)) == ""


def test_arms_are_compared_with_no_schedule_and_with_the_own_one(results):
    group = next(one for one in arm_groups(results) if one.setup.bits == 4 and one.setup.loss == "soft")
    rows = {row.word: row for row in group.rows}
    assert rows["random"].to_none.mean == pytest.approx(0.02)
    assert rows["random"].to_own.mean == pytest.approx(0.04)
    assert rows["none"].to_none is None
    assert rows["a_s"].to_own is None


def test_latex_has_one_column_for_each_of_the_tables(folder):
    text = (folder / "tables.tex").read_text()
    assert text.count("\\toprule") == text.count("\\bottomrule") == 2
    for line in text.splitlines():
        if line.endswith("\\\\"):
            assert line.count(" & ") in (5, 6)
    assert "A_S" not in text
    assert r"A\_S" in text
