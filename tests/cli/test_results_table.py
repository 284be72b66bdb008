"""The table that a run prints: figures stay whole in a narrow terminal, own networks are named by their file."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import rich.console

from rolewise.cli.results_table import show_results
from rolewise.config import load_config
from rolewise.stages import TRAININGS

ROW = {"weight_bits": 4, "act_bits": 4, "no_operation": False, "init": "teacher", "role": "student", "n": 360}


@pytest.mark.parametrize("width", [40, 60, 100])
def test_figures_stay_whole(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        {**ROW, "network": "mynet.py:ResNet", "kd": "ii-kd", "schedule": "A_S", "accuracy": 0.43666},
        {
            **ROW,
            "network": "mynet.py:ResNet",
            "kd": None,
            "schedule": None,
            "accuracy": 1.0,
            "same_as": "student-kd",
        },
    ]
    config = SimpleNamespace(data=SimpleNamespace(name=str(Path("/somewhere/pictures.py:make"))), seed=0)
    console = rich.console.Console
    monkeypatch.setattr(rich.console, "Console", lambda **_: console(width=width))
    show_results(SimpleNamespace(config=config, results=lambda: {"rows": rows}))
    out = capsys.readouterr().out
    assert all(len(line.rstrip()) <= width for line in out.splitlines())
    for words in ("43.67 %", "100.00 %", "ii-kd", "4/4"):
        assert words in out
    assert "…" not in out
    assert "somewhere" not in out
    if width == 40:  # names stay whole too
        lines = out.splitlines()
        first = lines.index("43.67 %  Student mynet.py:ResNet")
        assert lines[first + 1].split() == ["bits", "4/4,", "KD", "ii-kd,", "schedule", "A_S"]
        assert "┃" not in out
    if width == 100:
        assert "Test accuracy on pictures.py:make, last epoch, seed 0, n = 1" in out
        assert "Student mynet.py:ResNet (= student-kd)" in out


def test_a_title_wider_than_the_table_stays_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    row = {**ROW, "role": "teacher", "network": "cnn-tiny", "kd": None, "schedule": None, "accuracy": 0.75}
    config = SimpleNamespace(data=SimpleNamespace(name="stripes_of_three_colors.py:make"), seed=0)
    show_results(SimpleNamespace(config=config, results=lambda: {"rows": [row]}))
    assert (
        "Test accuracy on stripes_of_three_colors.py:make, last epoch, seed 0, n = 1"
        in capsys.readouterr().out
    )


def test_a_narrow_terminal_shows_averaged_weights_and_the_best_epoch(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {**ROW, "network": "cnn-tiny", "kd": None, "schedule": None, "accuracy": 0.5}
    further = {"accuracy_averaged": 0.625, "best_epoch": 3, "accuracy_best_epoch": 0.75}
    config = SimpleNamespace(data=SimpleNamespace(name="digits"), seed=0)
    console = rich.console.Console
    monkeypatch.setattr(rich.console, "Console", lambda **_: console(width=40))
    show_results(SimpleNamespace(config=config, results=lambda: {"rows": [{**row, **further}]}))
    out = capsys.readouterr().out
    assert "One seed; each 95 % interval is about ±5.1 points." in " ".join(out.split())
    assert "averaged weights: 62.50 %" in out
    assert "best held-out epoch, 3: 75.00 %" in out


def test_the_schedule_of_a_teacher_from_elsewhere_is_not_known(capsys: pytest.CaptureFixture[str]) -> None:
    row = {**ROW, "role": "teacher", "network": "cnn-tiny", "kd": None, "schedule": None, "accuracy": 0.75}
    config = SimpleNamespace(data=SimpleNamespace(name="digits"), seed=0)
    found = {"rows": [{**row, "init": "teacher.safetensors"}, {**row, "init": "random", "accuracy": 0.5}]}
    show_results(SimpleNamespace(config=config, results=lambda: found))
    elsewhere, here = (line for line in capsys.readouterr().out.splitlines() if "cnn-tiny" in line)
    assert "not known" in elsewhere
    assert "75.00 %" in elsewhere
    assert "not known" not in here


def test_own_networks_are_named_by_their_file() -> None:
    config = load_config(options={"teacher.network": "/home/me/code/mynet.py:make", "kd.loss": "none"})
    assert TRAININGS["student"].title(config, None) == "Student mynet.py:make, no KD, no schedule"
