"""`rolewise reproduce` and `rolewise compare`: what they print, and what they refuse."""

import csv
import json
import re
import shlex

import pytest
from made_runs import make_runs, write_predictions
from safetensors.torch import load_file, save_file
from scipy.stats import binomtest, sem, t
from torch.nn.functional import one_hot

from rolewise.cli import main
from rolewise.cli.reproduce import _command
from rolewise.config import flat, load_tree
from rolewise.experiments.plan import plan, select
from rolewise.experiments.recipes import Options
from rolewise.experiments.site import Site


def test_dry_run_prints_the_plan_and_writes_nothing(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", "study", "--only", "soft", "--seeds", "2", "--dry-run", "--scale", "0.1"]) == 0
    out = capsys.readouterr().out
    assert "14 cells: 6 searches and 30 trainings (scale 0.1)" in out
    assert (
        "seed1/search-study-cifar10-cnn-small-teacher: 8 cells" not in out
    )  # shared by all through the teacher
    # 6 searches of 8 members, 10 epochs of 15 batches of 64; 30 trainings of 10 such epochs.
    images = 10 * 15 * 64 * (6 * 8 + 30)
    assert f"{images:,} images trained on" in out
    assert "device-hours on one processor core" in out
    assert re.search(r"^seed0/search\S+: about [\d.]+ (s|min|hours|days)$", out, re.MULTILINE)
    assert list(tmp_path.iterdir()) == []


def test_the_report_of_what_is_there(capsys, tmp_path):
    out = tmp_path / "out"
    cells = select(["study"], ["soft"])
    make_runs(Site(out, Options()), plan(cells, range(2)), lambda one: 0.5)
    words = ["reproduce", "study", "--only", "soft", "--seeds", "2", "--out", str(out), "--report-only"]
    assert main(words) == 0
    assert capsys.readouterr().out == f"report: {out / 'report.html'}\n"
    # A second request widens the report, it does not replace the first one.
    assert main(["reproduce", "study", "--only", "no-kd", "--out", str(out), "--report-only"]) == 0
    found = json.loads((out / "results.json").read_text())["cells"]
    assert len(found) == 14 * 2 + 2
    assert "rolewise reproduce study --only 'soft' --seeds 2 --recipe paper" in (
        out / "report.html"
    ).read_text().replace("&#39;", "'")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["table5"], 'Unknown table "table5"'),
        (["table1", "--only", "resnet19"], 'Unknown cell "resnet19"'),
        (["table1", "--arms", "radnom"], 'Did you mean "random"'),
        (["table1", "--scale", "0"], "`scale` must be above 0 and at most 1, got 0.0."),
        (["table1", "--engine", "rai"], 'Unknown engine "rai"'),
        (["table1", "--gpus-per-run", "1"], "add `--engine ray`"),
        (["table1", "--set", "kd.wieght=1"], 'Unknown setting "kd.wieght"'),
        (["table1", "--recipe", "weak"], 'Unknown recipe "weak"'),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(words, said, capsys, tmp_path):
    assert main(["reproduce", *words, "--out", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_printed_command_can_be_typed(tmp_path):
    """A shell and `--set` read back what the directory was made with."""
    changes = {"student.train.milestones": [0.3, 0.6], "kd.loss": "soft", "student.network": None, "seed": 3}
    site = Site(tmp_path / "an experiment", Options(changes=changes))
    request = {"target": "study", "only": ["soft"], "arms": [], "seeds": 2}
    words = shlex.split(_command(request, site))
    assert words[:5] == ["rolewise", "reproduce", "study", "--only", "soft"]
    assert words[-2:] == ["--out", str(tmp_path / "an experiment")]
    given = [words[index + 1] for index, word in enumerate(words) if word == "--set"]
    assert flat(load_tree({}, given, {})) == changes


@pytest.fixture
def three_runs(tmp_path):
    """Two seeds of an arm at 0.500 and 0.510, two of another at 0.560 and 0.566."""
    site = Site(tmp_path / "out", Options())
    values = {"none": (0.500, 0.510), "a_s": (0.560, 0.566)}
    cells = select(["study"], ["w4a4/soft/none", "w4a4/soft/a_s"])
    work = plan(cells, range(2))
    make_runs(site, work, lambda one: values.get(one.setup.schedule, (0.6, 0.6))[one.seed])
    names = [site.run(one.name) for one in work if one.kind == "train" and one.role == "student"]
    return {("none", "a_s")["a_s" in path.name] + path.parent.name[-1]: path for path in names}


def test_one_run_against_another_by_mcnemar(three_runs, capsys):
    assert main(["compare", str(three_runs["none0"]), str(three_runs["a_s0"])]) == 0
    out = capsys.readouterr().out
    assert "+6.00" in out
    # 60 images differ, all in favor of the second: 2 / 2**60.
    assert "1.7e-18" in out
    assert "beyond the noise" in out
    assert "One seed says nothing about others" in out


def test_several_seeds_are_paired(three_runs, capsys):
    arms = [",".join(str(three_runs[word + seed]) for seed in "01") for word in ("none", "a_s")]
    assert main(["compare", *arms]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "+5.80" in out
    assert "1.00" in out


def test_the_comparison_as_a_file(three_runs, tmp_path, capsys):
    """Student's t from SciPy on the differences 0.060 and 0.056; one seed has none, and its interval is of images."""
    arms = [",".join(str(three_runs[word + seed]) for seed in "01") for word in ("none", "a_s")]
    path = tmp_path / "new" / "table.csv"
    assert main(["compare", *arms, "--csv", str(path)]) == 0
    first, other = list(csv.DictReader(path.read_text("utf-8").splitlines()))
    assert (first["seeds"], first["n"], first["difference"], first["verdict"]) == ("0 1", "2", "", "")
    assert float(first["accuracy"]) == pytest.approx(0.505)
    low, high = t.interval(0.95, 1, 0.058, sem([0.060, 0.056]))
    assert float(other["difference"]) == pytest.approx(0.058)
    assert [float(other[f"difference_{end}"]) for end in ("low", "high")] == pytest.approx([low, high])
    assert (other["interval_of"], other["noise_of"], other["probability_of_improvement"]) == (
        "seeds",
        "seeds",
        "1.0",
    )
    assert len(other["mcnemar_p"].split()) == 2

    assert main(["compare", str(three_runs["none0"]), str(three_runs["a_s0"]), "--csv", str(path)]) == 0
    first, other = list(csv.DictReader(path.read_text("utf-8").splitlines()))
    found = binomtest(round(0.56 * int(other["images"])), int(other["images"])).proportion_ci(0.95, "wilson")
    assert [float(other[f"accuracy_{end}"]) for end in ("low", "high")] == pytest.approx([*found], abs=1e-6)
    assert (other["interval_of"], other["difference_low"], other["noise_of"]) == ("images", "", "images")

    capsys.readouterr()
    own = three_runs["none0"] / "results.json"
    before = own.read_bytes()
    assert main(["compare", *arms, "--csv", str(own)]) == 2
    assert own.read_bytes() == before
    assert main(["compare", *arms, "--csv", str(path.parent)]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_networks_of_one_run_are_compared(three_runs, tmp_path, capsys):
    """The student, and a control that was added to its run: 56 images differ, 50 in favor of the student."""
    run = three_runs["none0"].rename(tmp_path / "a")
    file = run / "tests" / "student.safetensors"
    tensors = load_file(file)
    labels, logits = tensors["labels"], tensors["logits"].clone()
    right = (logits.argmax(1) == labels).nonzero().flatten()
    wrong = (logits.argmax(1) != labels).nonzero().flatten()
    for place, shift in ((right[:50], 1), (wrong[:6], 0)):
        logits[place] = one_hot((labels[place] + shift) % logits.shape[1], logits.shape[1]).to(logits.dtype)
    save_file({"labels": labels, "logits": logits}, run / "tests" / "trivial.safetensors")
    results = json.loads((run / "results.json").read_text())
    row = next(row for row in results["rows"] if row["key"] == "student")
    results["rows"].append({**row, "key": "trivial", "accuracy": row["accuracy"] - 44 / len(labels)})
    (run / "results.json").write_text(json.dumps(results))
    assert main(["compare", str(run), f"{run}:trivial"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "a:trivial" in out
    assert "-4.40" in out
    assert f"{binomtest(6, 56).pvalue:.2g}" in out
    assert "beyond the noise" in out
    assert main(["compare", str(run), f"{run}:trivail"]) == 2
    assert 'Did you mean "trivial"' in capsys.readouterr().err


def test_a_run_without_predictions_says_so(three_runs, capsys):
    (three_runs["a_s0"] / "tests" / "student.safetensors").unlink()
    assert main(["compare", str(three_runs["none0"]), str(three_runs["a_s0"])]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "no McNemar test" in out
    assert "kept no predictions" in out
    assert "cannot be said" in out


def test_damaged_predictions_are_named(three_runs, capsys):
    file = three_runs["a_s0"] / "tests" / "student.safetensors"
    file.write_bytes(b"no tensors")
    assert main(["compare", str(three_runs["none0"]), str(three_runs["a_s0"])]) == 2
    assert f"{file} cannot be read" in capsys.readouterr().err


def test_what_cannot_be_compared(three_runs, tmp_path, capsys):
    one, other = (str(three_runs[name]) for name in ("none0", "a_s0"))
    for words, said in (
        ([one], "at least two runs"),
        ([one, str(tmp_path)], "is not a run directory"),
        ([f"{one},{one}", other], "holds a seed twice"),
        ([one, other, "--key", "studnet"], 'Did you mean "student"'),
    ):
        assert main(["compare", *words]) == 2
        assert said in capsys.readouterr().err


def add_average(run, accuracy, *, predictions):
    """A run whose training has averaged weights too."""
    results = json.loads((run / "results.json").read_text())
    for row in results["rows"]:
        row["accuracy_averaged"] = accuracy
    (run / "results.json").write_text(json.dumps(results))
    if predictions:
        write_predictions(run / "tests" / "student-averaged.safetensors", accuracy)


def compared(capsys, *words):
    assert main(["compare", *map(str, words)]) == 0
    return " ".join(capsys.readouterr().out.split())


def test_averaged_weights_are_compared_by_name(three_runs, tmp_path, capsys):
    """0.500 and 0.560 last, 0.530 and 0.535 averaged: the averaged networks differ on 5 images."""
    one, other = (three_runs[name].rename(tmp_path / name) for name in ("none0", "a_s0"))
    for run, accuracy in ((one, 0.530), (other, 0.535)):
        add_average(run, accuracy, predictions=True)
    for words in (
        (one, other, "--key", "student-averaged"),
        [f"{run}:student-averaged" for run in (one, other)],
    ):
        path = tmp_path / "table.csv"
        out = compared(capsys, *words, "--csv", path)
        assert "+0.50" in out
        assert "53.00" in out
        assert "inside the noise" in out
        assert "were tested too" not in out
        first, second = csv.DictReader(path.read_text("utf-8").splitlines())
        assert (float(first["accuracy"]), float(second["accuracy"])) == (0.530, 0.535)
        assert {first["network"], second["network"]} == {"student-averaged"}
        assert float(second["mcnemar_p"]) == binomtest(0, 5).pvalue
        assert "a_s0:student-averaged" in out
    # Both networks of one training: 30 images.
    assert f"{binomtest(0, 30).pvalue:.2g}" in compared(capsys, one, f"{one}:student-averaged")


def test_last_weights_are_compared_with_a_word_on_averaged_ones(three_runs, tmp_path, capsys):
    one, other = (three_runs[name].rename(tmp_path / name) for name in ("none0", "a_s0"))
    assert "averaged" not in compared(capsys, one, other)
    add_average(other, 0.535, predictions=False)
    said = "These are the last weights; averaged weights of a_s0 were tested too. Compare those as "
    out = compared(capsys, one, other)
    assert "+6.00" in out
    assert said + "RUN:student-averaged." in out
    # A comparison with them needs no such word.
    assert "tested too" not in compared(capsys, one, other, f"{other}:student-averaged")
    add_average(one, 0.530, predictions=False)
    said = said.replace("of a_s0", "of none0, a_s0")
    assert said + "RUN:student-averaged or with `--key student-averaged`." in compared(capsys, one, other)


def test_averaged_weights_without_predictions(three_runs, capsys):
    """Runs of an earlier version kept those of the last weights alone."""
    for name in ("none0", "a_s0"):
        add_average(three_runs[name], 0.530, predictions=name == "none0")
    out = compared(capsys, three_runs["none0"], three_runs["a_s0"], "--key", "student-averaged")
    assert "no McNemar test" in out
    assert "kept no predictions of student-averaged" in out
    assert "cannot be said" in out


def test_a_run_without_averaged_weights_says_what_there_is(three_runs, capsys):
    one, other = three_runs["none0"], three_runs["a_s0"]
    add_average(one, 0.530, predictions=True)
    assert main(["compare", str(one), str(other), "--key", "student-averaged"]) == 2
    said = capsys.readouterr().err
    assert 'Unknown network of this run "student-averaged". Known: "student".' in said
    assert f"The run is {other}. It tested no averaged weights of student: they need" in said
    assert "`student.train.ema_decay`" in said
    assert main(["compare", str(one), f"{one}:student-avraged"]) == 2
    said = capsys.readouterr().err
    assert 'Known: "student", "student-averaged". Did you mean "student-averaged"?' in said
