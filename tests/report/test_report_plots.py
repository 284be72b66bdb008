"""Pictures: what is drawn where, the same bytes every time, nothing but SVG."""

import io
import re
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path

import matplotlib
import pytest
from PIL import Image

from rolewise.augment import Policy, RandAugment, Schedule
from rolewise.errors import InputError
from rolewise.report.load import load
from rolewise.report.plots import PANEL
from rolewise.report.schedule_data import schedule_data
from rolewise.report.schedule_plot import magnitude_panel, probability_panel, schedule_figure
from rolewise.report.search_plot import Line, curves_figure, lineage_figure
from rolewise.report.theme import COLORS, FAMILIES, Theme, families, style_sheet

SVG = "{http://www.w3.org/2000/svg}"


def tipped(svg: str) -> dict[str, list[tuple[float, float]]]:
    """By tip, the points of the shape that bears it."""
    found = {}
    for group in ET.fromstring(svg).iter(f"{SVG}g"):
        title = group.find(f"{SVG}title")
        if title is not None:
            shape = next(element for element in group.iter() if element.get("d"))
            numbers = [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", shape.get("d", ""))]
            found[str(title.text)] = list(zip(numbers[::2], numbers[1::2], strict=True))
    return found


def schedule() -> Schedule:
    return Schedule.random(40, seed=1, interval=4)


def test_bars_are_where_and_as_high_as_the_numbers_say() -> None:
    numbers = schedule_data(schedule())
    shapes = tipped(magnitude_panel("m", schedule(), Theme(page=False)))
    scales, lefts = set(), {}
    for name, row in zip(numbers.ops, numbers.magnitude, strict=True):
        for epoch in numbers.bars:
            if row[epoch]:
                points = shapes.pop(f"{name}, epoch {epoch}: magnitude {row[epoch]:g}")
                heights = [y for _, y in points]
                scales.add(round((max(heights) - min(heights)) / row[epoch], 1))
                lefts.setdefault(epoch, set()).add(round(min(x for x, _ in points), 1))
    assert not shapes
    assert max(scales) - min(scales) <= 0.11  # pixels per level: one scale, but for rounding
    assert all(len(places) == 1 for places in lefts.values())
    order = [next(iter(lefts[epoch])) for epoch in numbers.bars]
    steps = [b - a for a, b in pairwise(order)]
    assert max(steps) - min(steps) <= 0.21


def test_areas_are_as_high_as_the_numbers_say() -> None:
    numbers = schedule_data(schedule())
    shapes = tipped(probability_panel("p", schedule(), Theme(page=False)))
    assert len(shapes) == len(numbers.ops)
    right = max(x for points in shapes.values() for x, _ in points)
    ends = {}
    for tip, points in shapes.items():
        heights = [y for x, y in points if x == right]
        ends[tip.split(":")[0]] = max(heights) - min(heights)
    last = dict(zip(numbers.ops, numbers.probability[:, -1], strict=True))
    scale = sum(ends.values()) / sum(last.values())
    assert ends == pytest.approx({name: scale * value for name, value in last.items()}, abs=0.05)
    peak = {
        name: row.max() * numbers.largest for name, row in zip(numbers.ops, numbers.probability, strict=True)
    }
    assert set(shapes) == {f"{name}: probability up to {value:.2f}" for name, value in peak.items()}


def test_figure_3_has_a_column_for_each_schedule(tmp_path: Path) -> None:
    svg = schedule_figure([("Teacher", schedule()), ("Student", Schedule.none(40))], tmp_path / "figure.svg")
    assert (tmp_path / "figure.svg").read_text("utf-8") == svg
    words = [text.text for text in ET.fromstring(svg).iter(f"{SVG}text")]
    assert words.index("Teacher") < words.index("Student")
    assert words.count("probability, largest sum = 1") == words.count("magnitude, sum over ops") == 2
    assert (
        words.count("augmentation") == 2
    )  # of "no augmentation", where the student's areas and bars would be
    legend = words[-15:]
    assert legend == sorted(legend) == sorted(op for ops in FAMILIES.values() for op in ops)


def test_png(tmp_path: Path) -> None:
    items = [("Teacher", Schedule.random(6, seed=1))]
    schedule_figure(items, tmp_path / "figure.png")
    first = (tmp_path / "figure.png").read_bytes()
    image = Image.open(io.BytesIO(first))
    assert image.format == "PNG"
    assert image.width == 2 * PANEL[0]
    schedule_figure(items, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes() == first


def test_pdf(tmp_path: Path) -> None:
    items = [("Teacher", Schedule.random(6, seed=1))]
    schedule_figure(items, tmp_path / "figure.pdf")
    first = (tmp_path / "figure.pdf").read_bytes()
    assert first.startswith(b"%PDF-")
    assert b"CreationDate" not in first
    schedule_figure(items, tmp_path / "figure.pdf")
    assert (tmp_path / "figure.pdf").read_bytes() == first


def test_schedules_side_by_side_share_their_axes() -> None:
    """The weak one has half the probability and a third of the magnitude: its shapes are as much lower."""
    strong = Schedule.constant(Policy([("Rotate", 10, 9), ("Rotate", 10, 9)]), 4)
    weak = Schedule.constant(Policy([("Color", 5, 3), ("Color", 5, 3)]), 4)
    heights = {
        tip: max(y for _, y in points) - min(y for _, y in points)
        for tip, points in tipped(schedule_figure([("s", strong), ("w", weak)])).items()
    }
    area = {tip.split(":")[0]: height for tip, height in heights.items() if "probability" in tip}
    bars = {tip.split(",")[0]: height for tip, height in heights.items() if "epoch 0:" in tip}
    assert area["Color"] == pytest.approx(area["Rotate"] / 2, abs=0.05)
    assert bars["Color"] == pytest.approx(bars["Rotate"] / 3, abs=0.05)
    alone = tipped(schedule_figure([("w", weak)]))["Color: probability up to 0.50"]
    assert max(y for _, y in alone) - min(y for _, y in alone) == pytest.approx(area["Rotate"], abs=0.05)


def test_the_same_bytes_whatever_the_users_settings() -> None:
    items = [("Teacher", Schedule.random(6, seed=1))]
    first = schedule_figure(items)
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "red", "svg.fonttype": "path"}):
        assert schedule_figure(items) == first
    assert "date" not in first
    assert "metadata" not in first


def test_nothing_in_a_title_is_mathematics_or_markup() -> None:
    svg = probability_panel('a $x^2$ <script> & "q"', Schedule.none(4), Theme(page=True))
    root = ET.fromstring(svg)
    assert root.find(f"{SVG}title").text == root.get("aria-label") == 'a $x^2$ <script> & "q"'  # type: ignore[union-attr]
    whole = schedule_figure([("$x^2$ <b>", Schedule.none(4))])
    assert "$x^2$ <b>" in [text.text for text in ET.fromstring(whole).iter(f"{SVG}text")]


def test_a_page_takes_its_colors_from_the_style_sheet(demo: Path) -> None:
    theme, run = Theme(page=True), load(demo)
    found = run.lineage_data("teacher")
    assert found is not None
    svgs = [
        probability_panel("p", schedule(), theme),
        magnitude_panel("m", schedule(), theme),
        lineage_figure("l", found, theme, color="teacher"),
        curves_figure("c", "loss", [Line("a", "student", [1, 2], [3, 4])], theme, epochs=2),
    ]
    declared = set(re.findall(r"--([A-Za-z0-9]+):#", style_sheet()))
    assert declared == set(COLORS)
    for svg in svgs:
        ET.fromstring(svg)
        used = set(re.findall(r"var\(--([A-Za-z0-9]+)\)", svg))
        assert used - {"sans"} <= declared
        assert not re.findall(r"#[0-9a-f]{6}", svg)
        assert not re.findall(r' width="[^"]*pt"', svg)


def test_lineage_names_every_copy(demo: Path) -> None:
    found = load(demo).lineage_data("student")
    assert found is not None
    svg = lineage_figure("l", found, Theme(page=False), color="student")
    expected = {f"epoch {e.epoch}: {e.target} ({100 * (e.target_score or 0):.1f} %)" for e, _ in found.copies}
    assert {tip.split(" overwritten")[0] for tip in tipped(svg)} == expected
    assert len(expected) == 8
    small = lineage_figure("l", found, Theme(page=False), color="student", width=420)
    assert not tipped(small)
    members = [text.text for text in ET.fromstring(svg).iter(f"{SVG}text")]
    assert [str(member) for member in range(8)] == [text for text in members if text in set("01234567")][:8]


def test_curves_end_where_their_numbers_end() -> None:
    lines = [
        Line("a, train", "teacher", [1, 2, 3], [10, 20, 40]),
        Line("a, test", "teacher", [3], [30], dots=True),
    ]
    shapes = tipped(curves_figure("c", "accuracy, %", lines, Theme(page=False), epochs=3))
    points = shapes["a, train: 40 after epoch 3"]
    (x0, y0), (x1, y1), (x2, y2) = points
    assert x2 - x1 == pytest.approx(x1 - x0, abs=0.02)
    assert (y1 - y2) == pytest.approx(2 * (y0 - y1), abs=0.03)
    assert "a, test: 30 after epoch 3" in shapes


@pytest.mark.parametrize(
    ("items", "path", "words"),
    [
        ([], None, "`items` must hold at least one"),
        ([("a", Schedule.none(2))], "a.gif", r'`path` must end in \.svg, \.png or \.pdf, got "a\.gif"'),
        ([("a", Schedule.constant(RandAugment(), 2))], None, "RandAugment, which has no probability"),
    ],
)
def test_what_cannot_be_drawn(items: list[tuple[str, Schedule]], path: str | None, words: str) -> None:
    with pytest.raises(InputError, match=words):
        schedule_figure(items, path)


def test_an_op_has_the_same_color_in_every_stack_and_legend() -> None:
    """Also the ops outside the published 15, which two schedules number differently."""
    theme = Theme(page=False)
    names = (["Rotate", "FlipLR"], ["FlipLR", "FlipUD"])
    schedules = [Schedule.constant(Policy([(op, 5, 5) for op in ops]), 4) for ops in names]
    svg = schedule_figure([("one", schedules[0]), ("two", schedules[1])])
    # An area and bars in each column, and a square in the legend, whose rim has its color too.
    bars = len(schedule_data(schedules[0]).bars)
    assert svg.count(theme.op("FlipLR")) == 2 * (1 + bars) + 2
    assert svg.count(theme.op("FlipUD")) == svg.count(theme.op("Rotate")) == 1 + bars + 2
    assert families({"FlipLR", "Rotate"}) == [
        ("moves pixels", [("Rotate", "Rotate")]),
        ("others", [("FlipLR", "other")]),
    ]
