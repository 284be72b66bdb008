"""The report as a reader and a browser see it: complete, partial and damaged runs."""

import copy
import json
import re
import shutil
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from synthetic_run import SMALL, make_run

from rolewise.augment import RandAugment, Schedule
from rolewise.cli import main
from rolewise.errors import InputError
from rolewise.experiments.statistics import wilson_interval
from rolewise.report import write_markdown, write_report
from rolewise.report.curves import curves
from rolewise.report.load import load
from rolewise.report.text import duration, flatten, scale, segments, summary

VOID = {"meta", "link", "br", "hr", "img", "input"}


class Page(HTMLParser):
    """Checks nesting, and gathers texts, tags, attributes."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.cells: list[list[str]] = []
        self.feed(text)
        self.close()
        assert self.open == []
        self.visible = " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.cells.append([])
        if tag in ("td", "th"):
            self.cells[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.texts.append(data)
        if "td" in self.open or ("th" in self.open and self.cells):
            self.cells[-1][-1] += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page_of(folder: Path, to: Path) -> Page:
    return Page(write_report(folder, to / "report.html").read_text("utf-8"))


@pytest.fixture(scope="module")
def page(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Page:
    return page_of(demo, tmp_path_factory.mktemp("page"))


def test_it_needs_nothing_from_elsewhere(page: Page) -> None:
    assert not page.named("script")
    assert not page.named("link")
    assert not page.named("img")
    for tag, attributes in page.tags:
        for name, value in attributes.items():
            if name in ("src", "href", "xlink:href", "style", "action") and value:
                assert "//" not in value, (tag, name, value)
                assert name not in ("href", "xlink:href") or value.startswith("#")


def test_its_style_sheet_needs_nothing_from_elsewhere(tiny: Path, tmp_path: Path) -> None:
    text = write_report(tiny, tmp_path / "r.html").read_text("utf-8")
    style = text[text.index("<style>") : text.index("</style>")]
    assert "@import" not in style
    assert "url(" not in style
    assert "prefers-color-scheme:dark" in style
    assert "@media print" in style


def test_names_and_references_are_sound(page: Page) -> None:
    ids = [str(a["id"]) for _, a in page.tags if a.get("id")]
    assert len(ids) == len(set(ids))
    uses = [value for _, a in page.tags for value in a.values() if value and re.search(r"#[\w-]+", value)]
    for reference in {name for value in uses for name in re.findall(r"(?:url\(|^)#([\w-]+)", value)}:
        assert reference in ids
    for attributes in page.named("section"):
        if "aria-labelledby" in attributes:
            assert attributes["aria-labelledby"] in ids


def test_it_can_be_read_aloud(page: Page) -> None:
    assert page.named("html")[0]["lang"] == "en"
    assert all(attributes.get("scope") for attributes in page.named("th"))
    pictures = page.named("svg")
    assert len(pictures) == 4 + 2 * 2 + 2 * 2  # schedules; searches, wide and narrow; curves
    assert all(picture["role"] == "img" and picture["aria-label"] for picture in pictures)
    assert len({picture["aria-label"] for picture in pictures}) == len(pictures)
    headings = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert headings[0] == 1
    assert headings.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(headings))


def test_the_result_table(page: Page, demo: Path) -> None:
    rows = [[cell.strip() for cell in row] for row in page.cells if len(row) == 6]
    assert rows[1] == ["Teacher resnet18", "32/32", "none", "AT", "97.22 %", "95.0–98.5"]
    assert rows[2] == ["Student resnet18", "4/4", "II-KD", "AS", "95.56 %", "92.9–97.2"]
    assert [(row[0], row[2], row[3]) for row in rows[3:6]] == [
        ("Student resnet18", "none", "none"),
        ("Student resnet18", "II-KD", "none"),
        ("Student resnet18", "II-KD", "AT"),
    ]
    assert "For comparison: trained otherwise" in page.visible
    marks = [str(a["style"]) for a in page.named("span") if a.get("class") in ("interval", "point")]
    assert len(marks) == 10
    left, width, dot = (float(number) for number in re.findall(r"([\d.]+)%", " ".join(marks[:2])))
    low, high = scale(load(demo).rows)
    assert left == pytest.approx(100 * (wilson_interval(350 / 360, 360)[0] - low) / (high - low), abs=0.01)
    assert left < dot < left + width <= 100


def test_a_loss_of_your_own_is_named_without_its_folder(tiny: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny, run)
    results = json.loads((run / "results.json").read_text())
    for row in results["rows"]:
        row["kd"] = "/home/ada/losses/my_loss.py:Direction"
    (run / "results.json").write_text(json.dumps(results))
    page = page_of(run, tmp_path)
    rows = [[cell.strip() for cell in row] for row in page.cells if len(row) == 6]
    assert [row[2] for row in rows[1 : 1 + len(results["rows"])]] == ["my_loss.py:Direction"] * len(
        results["rows"]
    )
    assert "| my_loss.py:Direction |" in write_markdown(run, tmp_path / "r.md").read_text("utf-8").replace(
        "\\", ""
    )


def test_a_complete_run_says_so(page: Page) -> None:
    assert "not complete" not in page.visible
    assert "Not in this run" not in page.visible
    for words in (
        "CIFAR-100: resnet18 to 4-bit resnet18",
        "The 4-bit student reaches 95.56 % test accuracy under its own schedule, 1.67 points above the same student "
        "trained without distillation and schedule and 1.67 points below its 32-bit teacher.",
        "One seed; each 95 % interval is about ±2.5 points.",
        "on 360 test images never used for model selection, in float32 (trained in float32); one run each (n = 1 seed)",
        "With batch normalization over each test batch",
        "8 members, 8 exploits in 4 rounds",
        "Teacher search 1 h 26 min",
        "/data/with <b>tags</b> & blanks",
        "train.milestones 0.3, 0.6, 0.9",
        "hardware.cpu A processor",
    ):
        assert words in page.visible, words


@pytest.mark.parametrize(
    ("kind", "said", "missing"),
    [
        (
            "searching",
            "Nothing of this run is complete yet.",
            [
                "Search of the teacher's schedule: at epoch 6 of 10.",
                "Training of the teacher: not begun.",
                "Search of the student's schedule: not begun.",
                "Training of the student: not begun.",
            ],
        ),
        (
            "searched",
            "This run holds the teacher's schedule; no network has been trained to the end and tested.",
            ["Training of the teacher: not begun.", "Search of the student's schedule: not begun."],
        ),
        (
            "training",
            "This run holds the teacher's schedule; no network has been trained to the end and tested.",
            ["Training of the teacher: at epoch 6 of 20."],
        ),
        (
            "teacher",
            "The teacher reaches 97.22 % test accuracy under its own schedule. The student's stage is not complete.",
            ["Search of the student's schedule: not begun.", "Training of the student: not begun."],
        ),
        (
            "train-alone",
            "The 4-bit student reaches 95.56 % test accuracy under trivialaugment.",
            [
                "Search of the teacher's schedule: not begun.",
                "Training of the teacher: not begun.",
                'Training "Student resnet18, no KD, no schedule": not begun.',
                'Training "Student resnet18, ii-kd, A_T": not begun.',
            ],
        ),
    ],
)
def test_partial_runs(
    made: dict[str, Path], tmp_path: Path, kind: str, said: str, missing: list[str]
) -> None:
    page = page_of(made[kind], tmp_path)
    assert said in page.visible
    assert "not complete" in page.visible
    assert "Not in this run, or not yet" in page.visible
    for sentence in missing:
        assert sentence in page.visible
    assert "Could not be read" not in page.visible
    if kind == "searching":
        assert "The search has reached epoch 6 of 10; member" in page.visible
    assert load(made[kind]).missing()


def test_a_complete_run_is_complete(demo: Path) -> None:
    run = load(demo)
    assert (run.missing(), run.faults) == ([], [])


def test_a_run_of_the_library_without_any_settings(tmp_path: Path) -> None:
    run = tmp_path / "by-hand"
    make_run(run, until="searched", **SMALL)  # type: ignore[arg-type]
    for name in ("A_T.json", "results.json", "lineage.jsonl"):
        (run / name).unlink()
    record = json.loads((run / "config.json").read_text())
    record["config"] = {"epochs": 3, "seed": 1, "role": "student"}
    (run / "config.json").write_text(json.dumps(record))
    lines = [
        {
            "stage": "train",
            "role": "student",
            "member": None,
            "split": "train",
            "epoch": e,
            "accuracy": 0.5,
            "loss": 1 / e,
        }
        for e in (1, 2)
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    page = page_of(run, tmp_path)
    assert "by-hand" in page.visible
    assert "Training of the student: at epoch 2 of 3." in page.visible
    assert len(page.named("svg")) == 2


def test_text_from_files_is_text(tiny: Path, tmp_path: Path) -> None:
    bad = '<script>alert("x")</script><img src=x onerror=y>&amp;{{ 7 * 7 }}'
    run = tmp_path / "run <i>&"
    shutil.copytree(tiny, run)
    record = json.loads((run / "config.json").read_text())
    record["config"] = {
        bad: bad,
        "seed": bad,
        "data": {"name": bad, bad: {bad: [bad]}},
        "teacher": {"network": bad},
    }
    record["config"]["student"] = {"network": bad, "weight_bits": 4, "act_bits": bad}
    record["environment"]["versions"][bad] = bad
    (run / "config.json").write_text(json.dumps(record))
    results = json.loads((run / "results.json").read_text())
    results["rows"][0] |= {"name": bad, "kd": bad, "schedule": bad}
    results["costs"][0]["stage"] = bad
    (run / "results.json").write_text(json.dumps(results))
    with (run / "metrics.jsonl").open("a") as log:
        log.write(
            json.dumps({"stage": f"train-{bad}", "role": "teacher", "split": "train", "epoch": 1, "loss": 1})
            + "\n"
        )
    page = page_of(run, tmp_path)
    assert not page.named("script")
    assert not page.named("img")
    assert all(set(attributes) == {"style"} for attributes in page.named("i"))  # the template's own
    assert run.name in page.visible
    assert page.visible.count(bad) >= 8
    assert "49" not in page.visible.split("{{ 7 * 7 }}")[0]
    text = write_markdown(run, tmp_path / "report.md").read_text("utf-8")
    assert "<script" not in text
    assert "&lt;script" in text


@pytest.mark.parametrize(
    ("file", "data", "words"),
    [
        ("results.json", b"{", "results.json:1 is not JSON"),
        ("results.json", b"[]", "results.json cannot be used"),
        ("results.json", b'{"rows": [{"key": "teacher", "accuracy": 97}]}', "rows.0.accuracy"),
        ("results.json", b'{"searches": {"teacher": {"best": -1}}}', "searches.teacher.best"),
        ("results.json", b'{"searches": {"teacher": {"best": 99}}}', "the best member is said to be 99, of"),
        ("A_T.json", b'{"format": "x"}', "A_T.json"),
        ("metrics.jsonl", b"{}\nnonsense\n{}\n", "metrics.jsonl:2 is not JSON"),
        ("lineage.jsonl", b'{"role": "teacher", "epoch": 1}\n', "The teacher's search cannot be drawn"),
        (
            "lineage.jsonl",
            b'{"role": "teacher", "epoch": 1, "target": -1, "source": 0, "old": [], "new": []}\n',
            "`target`",
        ),
    ],
)
def test_a_damaged_file_is_named_and_the_rest_is_shown(
    tiny: Path, tmp_path: Path, file: str, data: bytes, words: str
) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny, run)
    (run / file).write_bytes(data)
    page = page_of(run, tmp_path)
    assert "Could not be read" in page.visible
    assert words in page.visible
    assert "Settings and environment" in page.visible
    assert "not complete" in page.visible
    assert words in re.sub(r"\\(.)", r"\1", write_markdown(run, tmp_path / "r.md").read_text("utf-8"))


def test_a_torn_log_is_read_to_its_last_whole_line(tiny: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny, run)
    with (run / "metrics.jsonl").open("ab") as log:
        log.write(b'{"role": "tea')
    page = page_of(run, tmp_path)
    assert "Could not be read" not in page.visible


def test_lines_without_an_epoch_are_passed_over(tiny: Path, tmp_path: Path) -> None:
    run = tmp_path / tiny.name
    shutil.copytree(tiny, run)
    with (run / "metrics.jsonl").open("a") as log:
        for role in ("teacher", "student"):
            line = {"stage": "train", "role": role, "epoch": None, "split": "train", "accuracy": 0.5}
            log.write(json.dumps(line) + "\n")
    assert write_report(run).read_bytes() == write_report(tiny, tmp_path / "t.html").read_bytes()


def test_the_same_run_gives_the_same_bytes_wherever_it_lies(tiny: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere" / tiny.name
    shutil.copytree(tiny, copy)
    first, second = write_report(tiny, tmp_path / "1.html"), write_report(copy)
    assert second == copy / "report.html"
    assert first.read_bytes() == second.read_bytes()
    assert str(tmp_path).encode() not in first.read_bytes()


def test_where_it_cannot_be_written(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"Cannot write .*missing/r\.html: No such file .* Name another file with `--out`"
    ):
        write_report(tiny, tmp_path / "missing" / "r.html")
    with pytest.raises(InputError, match=r"Cannot write .*missing/r-figures"):
        write_markdown(tiny, tmp_path / "missing" / "r.md")
    with pytest.raises(InputError, match=r"is not a run directory: it has no config\.json"):
        write_report(tmp_path)


def test_markdown(demo: Path, tmp_path: Path) -> None:
    path = write_markdown(demo, tmp_path / "a report.md")
    text = path.read_text("utf-8")
    assert "| Student resnet18 | 4/4 | II-KD | A\\_S | 95.56 % | 92.9–97.2 |" in text
    assert "| Teacher search | 1 h 26 min | 2 h 50 min | 12,697,600 | 2,437 |" in text
    assert "With batch normalization over each test batch" in text
    assert re.search(r"^\| Student resnet18, ii-kd, A\\_S \| 95\.\d\d % \|$", text, re.MULTILINE)
    assert "Lines: on the augmented training images" in text
    pictures = re.findall(r"\]\(([^)]*)\)", text)
    assert len(pictures) == 7
    assert all(picture.startswith("a%20report-figures/") for picture in pictures)
    written = {file.name for file in (tmp_path / "a report-figures").iterdir()}
    assert written == {picture.split("/")[1] for picture in pictures}
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert len(tables) >= 3
    for table in tables:
        assert len({line.count("|") - line.count("\\|") for line in table.splitlines()}) == 1, table


def test_words(demo: Path) -> None:
    assert [duration(s) for s in (0.04, 59.94, 60, 3661)] == ["0.0 s", "59.9 s", "1 min 0 s", "1 h 1 min"]
    assert flatten({"a": {"b": None, "c": [0.3, True]}, "d": {}}) == [
        ("a.b", "–"),
        ("a.c", "0.3, yes"),
        ("d", "–"),
    ]
    run = load(demo)
    lines = segments(run.schedules["student"])
    assert lines[0] == {"epochs": "1–2", "ops": "no augmentation"}
    assert (
        segments(run.schedules["student"], most=2)[-1]["ops"] == f"{len(lines) - 1} more segments in the file"
    )
    run.row("student")["accuracy"] = run.row("student-plain")["accuracy"]  # type: ignore[index]
    run.row("student")["act_bits"] = 2  # type: ignore[index]
    assert summary(run)[0].startswith(
        "The 4/2-bit student reaches 93.89 % test accuracy under its own schedule, level with"
    )


def test_the_scale_holds_all_intervals() -> None:
    def row(k: int, n: int) -> dict[str, Any]:
        return {"accuracy": k / n, "n": n}

    assert scale([row(351, 360)]) == pytest.approx((0.95, 0.99))
    assert scale([row(0, 10), row(10, 10)]) == pytest.approx((0.0, 1.0))
    assert scale([row(9500, 10_000), row(7000, 10_000)]) == pytest.approx((0.6, 1.0))


def test_a_schedule_without_augmentation_is_said_to_be_one(tiny: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny, run)
    Schedule.none(4).save(run / "A_T.json")
    page = page_of(run, tmp_path)
    assert "97.22 % test accuracy under its own schedule, which holds no augmentation." in page.visible
    assert "No augmentation in any epoch." in page.visible
    assert "Colors of the ops" not in [attributes.get("aria-label") for attributes in page.named("ul")]


def test_the_headline_names_the_schedule_that_was_used(demo: Path) -> None:
    run = load(demo)
    row = run.row("student")
    assert row is not None

    def headline(**changes: Any) -> str:
        row.update(changes)
        return summary(run)[0].split(" test accuracy")[1].split(", 1.67 points above")[0]

    assert headline() == " under its own schedule"
    assert headline(schedule="A_T") == " under the teacher's schedule"
    assert headline(schedule="A_S.json") == " under A_S.json"  # a file of another run
    assert (
        headline(schedule="mine.json", no_operation=True) == " under mine.json, which holds no augmentation"
    )
    assert headline(schedule=None, no_operation=False) == ""
    run.row("student-plain")["same_as"] = "student"  # type: ignore[index]
    assert "the same student trained without" not in summary(run)[0]


def test_the_schedule_of_a_teacher_from_elsewhere_is_not_known(tiny: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny, run)
    results = json.loads((run / "results.json").read_text())
    results["rows"][0] |= {"role": "teacher", "init": "mine.safetensors", "schedule": None, "kd": None}
    (run / "results.json").write_text(json.dumps(results))
    assert "none not known 97.22 %" in page_of(run, tmp_path).visible
    assert "not known | 97.22 %" in write_markdown(run, tmp_path / "r.md").read_text("utf-8")


def test_a_network_is_named_as_far_as_its_row_states(tiny: Path, tmp_path: Path) -> None:
    """Loss and schedule have columns of their own; a row of an earlier version may have nothing but its name."""
    run = tmp_path / "run"
    shutil.copytree(tiny, run)
    whole = json.loads((run / "results.json").read_text())
    changes = ({"init": "random"}, {"init": "random", "same_as": "student-kd"}, {"network": "unknown"})
    said = (
        "Student resnet18, from scratch",
        "Student resnet18, from scratch (the same training as student-kd)",
        "Student resnet18, ii-kd, A_S",
    )
    for change, words in zip(changes, said, strict=True):
        results = copy.deepcopy(whole)
        results["rows"][0] |= {"role": "student", "name": "Student resnet18, ii-kd, A_S"} | change
        (run / "results.json").write_text(json.dumps(results))
        rows = [[cell.strip() for cell in row] for row in page_of(run, tmp_path).cells if len(row) == 6]
        assert rows[1][0] == words


def test_a_schedule_from_a_file_is_shown_at_the_length_of_the_training(tiny: Path, tmp_path: Path) -> None:
    """The file's name is in the title, and two epochs of the file are four of the training."""
    run = tmp_path / "run"
    shutil.copytree(tiny, run)
    config = json.loads((run / "config.json").read_text())
    config["config"]["student"] = {"schedule": "/elsewhere/mine.json", "train": {"epochs": 4}}
    (run / "config.json").write_text(json.dumps(config))
    copy = run / "inputs" / "student.schedule" / "mine.json"
    copy.parent.mkdir(parents=True)
    Schedule.random(2, seed=1).save(copy)
    record = {"path": "/elsewhere/mine.json", "name": "inputs/student.schedule/mine.json", "files": {}}
    (run / "inputs.json").write_text(json.dumps({"student.schedule": record}))
    page = page_of(run, tmp_path)
    assert "Student: mine.json as a table (4 epochs, probability/magnitude)" in page.visible
    assert "Schedules of teacher and student." in page.visible
    assert "### Student, mine.json" in write_markdown(run, tmp_path / "r.md").read_text("utf-8")
    copy.write_text("{")
    page = page_of(run, tmp_path)
    assert "Could not be read" in page.visible
    assert "Student: mine.json" not in page.visible


def test_equal_trainings_that_are_missing_are_named_once(made: dict[str, Path], tmp_path: Path) -> None:
    """From random weights and without distillation the baselines of the student are all the same training."""
    run = tmp_path / "run"
    shutil.copytree(made["train-alone"], run)
    config = json.loads((run / "config.json").read_text())
    config["config"]["student"]["init"] = "random"
    config["config"]["kd"]["loss"] = "none"
    (run / "config.json").write_text(json.dumps(config))
    page = page_of(run, tmp_path)
    assert page.visible.count('Training "Student resnet18 from scratch, no KD, no schedule": not begun.') == 1


def test_averaged_weights_have_a_place_of_their_own(tiny: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny, run)
    results = json.loads((run / "results.json").read_text())
    results["rows"][0]["accuracy_averaged"] = 0.9751
    (run / "results.json").write_text(json.dumps(results))
    assert "97.22 % averaged weights: 97.51 %" in page_of(run, tmp_path).visible
    text = write_markdown(run, tmp_path / "r.md").read_text("utf-8")
    assert "| 97.22 % | 95.0–98.5 | 97.51 % |" in text
    assert "averaged weights" not in page_of(tiny, tmp_path).visible
    assert "Averaged weights" not in write_markdown(tiny, tmp_path / "r.md").read_text("utf-8")


def test_a_schedule_that_cannot_be_drawn_is_listed(tiny: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny, run)
    Schedule.constant(RandAugment(), 4).save(run / "A_T.json")
    page = page_of(run, tmp_path)
    assert "A_T cannot be drawn: segment 0 of the schedule is RandAugment" in page.visible
    assert ["1–4", "RandAugment"] in page.cells


def test_a_best_member_that_was_never_overwritten_is_said_so(tiny: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny, run)
    lines = [json.loads(line) for line in (run / "lineage.jsonl").read_text().splitlines()]
    kept = next(member for member in range(4) if member not in {line["target"] for line in lines})
    results = json.loads((run / "results.json").read_text())
    results["searches"]["teacher"] = {"best": kept, "score": 0.75, "overwritten": False}
    (run / "results.json").write_text(json.dumps(results))
    page = page_of(run, tmp_path)
    assert (
        f"The best member, {kept}, was never overwritten: its schedule is the one it began with."
        in page.visible
    )
    assert "Its validation accuracy, 75.00 %, only ranks the members" in page.visible


def test_the_command(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "r.html"
    assert main(["report", str(tiny), "--out", str(target)]) == 0
    assert capsys.readouterr().out == f"{target}\n"
    assert target.read_bytes() == write_report(tiny, tmp_path / "again.html").read_bytes()
    assert main(["report", str(tiny), "--markdown", "--out", str(tmp_path / "r.md")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'r.md'}\n"
    assert main(["report", str(tmp_path)]) == 2
    found = capsys.readouterr()
    assert found.out == ""
    assert f"{tmp_path} is not a run directory: it has no config.json" in found.err


def test_curves_that_hide_one_another_are_named(tiny: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny, run)
    about = {"role": "student", "member": None, "split": "train", "loss": 1.0}
    lines = [
        {**about, "stage": f"train-{key}", "epoch": epoch, "accuracy": 0.1 * epoch + (key == "other") / 100}
        for key in ("student", "student-kd", "other")
        for epoch in (1, 2)
    ]
    with (run / "metrics.jsonl").open("a") as log:
        log.write("".join(json.dumps(line) + "\n" for line in lines))
    words = "Equal in every epoch, one line over the other: student; student-kd."
    assert words in page_of(run, tmp_path).visible
    assert words in write_markdown(run, tmp_path / "r.md").read_text("utf-8")
    assert "Equal in every epoch" not in page_of(tiny, tmp_path).visible


def test_the_loss_that_is_drawn_is_the_tasks(tiny: Path, tmp_path: Path) -> None:
    """A total with distillation in it would squeeze the loss of a training without into one line."""
    run = tmp_path / "run"
    shutil.copytree(tiny, run)
    about = {"role": "student", "member": None, "epoch": 1, "stage": "train-student"}
    lines = [
        {**about, "split": "train", "loss": 120.0, "task": 0.5, "accuracy": 0.5},
        {**about, "split": "train", "loss": 0.25, "accuracy": 0.5, "stage": "train-student-plain"},
        {**about, "split": "test", "loss": 0.75, "accuracy": 0.5},
        # A teacher that was trained elsewhere has been tested, and no more.
        {
            **about,
            "role": "teacher",
            "stage": "train-teacher",
            "epoch": 0,
            "split": "test",
            "loss": 1,
            "accuracy": 0.5,
        },
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = curves(load(run), "student")
    assert found is not None
    assert sorted(line.y for line in found.loss) == [(0.25,), (0.5,), (0.75,)]
    assert curves(load(run), "teacher") is None
    visible = page_of(run, tmp_path).visible
    assert "the loss is that of the task, without distillation. Dots: test images" in visible
    assert "Broken lines" not in visible
