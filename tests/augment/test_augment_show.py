"""`rolewise schedule`: its words, files and pictures."""

import re

import numpy as np
import pytest
from PIL import Image

from rolewise.augment import AutoAugment, Policy, RandAugment, Schedule, TrivialAugment
from rolewise.augment.contact_sheet import captions, contact_sheet
from rolewise.cli import main

ACTIVE = Policy([("Rotate", 3, 2), ("Invert", 10, 9), ("Color", 1, 0), ("Color", 2, 9)])


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.json"
    Schedule(
        [(3, Policy.none()), (1, ACTIVE), (2, RandAugment(1, 5))], role="student", provenance={"score": 0.5}
    ).save(path)
    return path


@pytest.fixture
def pba(tmp_path):
    path = tmp_path / "pba.txt"
    Schedule([(6, Policy.none()), (4, Policy.from_vector([1, 2] * 30))]).save(path, form="pba")
    return path


def test_show(file, capsys):
    assert main(["schedule", "show", str(file)]) == 0
    assert capsys.readouterr().out == (
        "mine.json: 6 epochs in 3 segments, of the student\n"
        "  score: 0.5\n"
        "   epochs  ops/image  op probability@strength\n"
        "      0-2       0.00  none\n"
        "        3       1.05  Rotate 0.3@±6, Color 0.1@0.1 0.2@1.72, Invert 1\n"
        "      4-5       1.00  RandAugment(num_ops=1, magnitude=5)\n"
    )


def test_show_a_log(pba, capsys):
    assert main(["schedule", "show", str(pba), "--epochs", "10"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("pba.txt: 10 epochs in 2 segments\n")
    assert "\n  ops: published\n" in out
    assert main(["schedule", "show", str(pba)]) == 2
    assert "rolewise: error: `epochs` must be given: pba.txt does not tell" in capsys.readouterr().err


def test_expected_ops_are_those_that_are_drawn():
    pba = [ACTIVE, Policy.from_vector([1, 2] * 30), Policy.from_vector([4, 2] * 30), Policy.none()]
    for policy in (*pba, RandAugment(3, 4), TrivialAugment(), AutoAugment()):
        drawn = [len(ops) for ops in policy.trace(np.arange(20_000), seed=0, epoch=0)]
        assert np.mean(drawn) == pytest.approx(policy.expected_ops(), abs=0.025)


def test_diff(tmp_path, file, pba, capsys):
    assert main(["schedule", "diff", str(file), str(file)]) == 0
    assert capsys.readouterr().out == "the same policy in every epoch\n"
    other = tmp_path / "other.json"
    changed = [(name, p + (name == "Color"), m) for name, p, m in ACTIVE.settings]
    Schedule([(4, Policy(changed)), (3, RandAugment(1, 5))]).save(other)
    assert main(["schedule", "diff", str(file), str(other)]) == 0
    assert capsys.readouterr().out == (
        "lengths: 6 against 7 epochs; the first 6 are compared\n"
        "epochs 0-2: none -> Rotate 0.3@±6, Color 0.2@0.1 0.3@1.72, Invert 1\n"
        "epochs 3: Color 1/0 -> 2/0, Color (2) 2/9 -> 3/9\n"
    )


def test_convert(tmp_path, file, pba, capsys):
    out = tmp_path / "out.json"
    assert (
        main(
            [
                "schedule",
                "convert",
                str(pba),
                str(out),
                "--epochs",
                "10",
                "--stretch",
                "20",
                "--role",
                "teacher",
            ]
        )
        == 0
    )
    assert capsys.readouterr().out == f"wrote {out}: 20 epochs in 2 segments\n"
    converted = Schedule.load(out)
    assert converted.role == "teacher"
    assert [epochs for epochs, _ in converted.segments] == [12, 8]
    assert converted.provenance["file"] == "pba.txt"
    back = tmp_path / "back.txt"
    assert main(["schedule", "convert", str(out), str(back)]) == 0
    assert Schedule.load(back, 20).segments == converted.segments
    assert main(["schedule", "convert", str(file), str(back)]) == 2
    assert "has a vector" in capsys.readouterr().err


def test_options_of_logs(tmp_path, capsys):
    log = tmp_path / "pbt_global.txt"
    log.write_text(repr(["1", "0", 2, 3, [0] * 8, [1, 2] * 4]) + "\n")
    assert (
        main(["schedule", "show", str(log), "--epochs", "5", "--ops", "Invert, Color", "--trial", "1"]) == 0
    )
    assert "3-4       0.30  Color 0.1@0.46 0.1@0.46, Invert 0.1 0.1" in capsys.readouterr().out
    assert main(["schedule", "show", str(log), "--epochs", "5", "--ops", "Invert,Colr", "--trial", "1"]) == 2
    assert 'Did you mean "Color"' in capsys.readouterr().err


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_plots(tmp_path, pba, suffix, capsys):
    picture = tmp_path / f"figure.{suffix}"
    assert main(["schedule", "show", str(pba), "--epochs", "10", "--plot", str(picture)]) == 0
    assert capsys.readouterr().out.endswith(f"wrote {picture}\n")
    two = tmp_path / f"two.{suffix}"
    assert main(["schedule", "plot", str(pba), str(pba), "--epochs", "10", "--out", str(two)]) == 0
    if suffix == "png":
        with Image.open(two) as wide, Image.open(picture) as narrow:
            assert wide.width > 1.5 * narrow.width
    else:
        assert "<svg" in picture.read_text()
        assert "TranslateX" in picture.read_text()


class TestPreview:
    IMAGES = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3)).astype(np.uint8)
    TINTED = Policy([("TranslateX", 10, 3), ("Invert", 10, 0)])

    def cells(self, sheet: Image.Image, columns: int, side: int = 112) -> list[np.ndarray]:
        """The shown images of the first row, at their own size."""
        pixels = np.asarray(sheet)
        return [
            pixels[36 : 36 + side, 10 + k * (side + 10) :][:, :side][:: side // 8, :: side // 8]
            for k in range(columns)
        ]

    def test_the_sheet_shows_what_the_policy_makes(self):
        sheet = contact_sheet(
            self.TINTED, self.IMAGES, seed=4, epoch=1, ids=[7, 9], fill=(9, 8, 7), variants=3, title="title"
        )
        cells = self.cells(sheet, 4)
        np.testing.assert_array_equal(cells[0], self.IMAGES[0])
        for k in range(3):
            expected = self.TINTED(self.IMAGES[0], seed=4 + k, epoch=1, ids=[7], fill=(9, 8, 7))
            np.testing.assert_array_equal(cells[k + 1], expected)

    def test_large_images_are_shrunk(self):
        large = np.zeros((1, 300, 200, 3), np.uint8)
        sheet = contact_sheet(self.TINTED, large, seed=0, epoch=0, ids=[0], fill=(0, 0, 0), variants=1)
        assert sheet.width < 300

    def test_captions(self):
        (applied,) = Policy([("Invert", 10, 0)] * 2).trace([0], seed=5, epoch=0)
        assert captions(applied) == ["Invert"] * len(applied) or captions(applied) == ["-"]
        (many,) = RandAugment(7, 30).trace([0], seed=0, epoch=0)
        lines = captions(many)
        assert lines[-1] == "and 4 more"
        assert len(lines) == 4

    def test_the_command(self, tmp_path, pba, capsys):
        out = tmp_path / "sheet.png"
        arguments = ["schedule", "preview", str(pba), "--epochs", "10", "--out", str(out), "--images", "3"]
        assert main([*arguments, "--epoch", "9", "--variants", "2"]) == 0
        assert capsys.readouterr().out == f"wrote {out}\n"
        with Image.open(out) as sheet:
            assert sheet.width == 10 + 3 * 122
        assert main([*arguments, "--epoch", "10"]) == 2
        assert re.search("`epoch` must be an integer from 0 to 9, got 10", capsys.readouterr().err)
        assert main([*arguments[:-4], "--out", str(tmp_path / "none" / "a.png")]) == 2
        assert "The picture cannot be written" in capsys.readouterr().err
        assert main([*arguments[:-4], "--out", str(tmp_path / "a.doc")]) == 2
        assert "The picture cannot be written" in capsys.readouterr().err
