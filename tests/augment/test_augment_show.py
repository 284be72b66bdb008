"""`rolewise schedule`: its words, files and pictures."""

import re

import numpy as np
import pytest
from PIL import Image

from rolewise.augment import AutoAugment, Policy, RandAugment, Schedule, TrivialAugment, compare
from rolewise.augment.contact_sheet import captions, contact_sheet, epoch_strip
from rolewise.cli import main
from rolewise.errors import InputError

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
        "      4-5       1.00  RandAugment(num_ops=1, magnitude=5, space=mirrored)\n"
        "  ranges of torchvision's RandAugment and AutoAugment: shear 0.3, translation 150/331 of the side, "
        "30 degrees, factors 1 +- 0.9, 8 to 4 bits, threshold 255 to 0\n"
        "  at 32 x 32 pixels: Identity, ShearX ±0.05, ShearY ±0.05, TranslateX ±2, TranslateY ±2, Rotate ±5, "
        "Brightness ±0.15, Color ±0.15, Contrast ±0.15, Sharpness ±0.15, Posterize 7, Solarize 213, AutoContrast, "
        "Equalize\n"
    )


def test_show_a_log(pba, capsys):
    assert main(["schedule", "show", str(pba), "--epochs", "10"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("pba.txt: 10 epochs in 2 segments\n")
    assert "\n  ops: published\n" in out
    assert main(["schedule", "show", str(pba)]) == 2
    assert "rolewise: error: `epochs` must be given: pba.txt does not state" in capsys.readouterr().err


def test_expected_ops_are_those_that_are_drawn():
    pba = [ACTIVE, Policy.from_vector([1, 2] * 30), Policy.from_vector([4, 2] * 30), Policy.none()]
    for policy in (*pba, RandAugment(3, 4), TrivialAugment(), AutoAugment()):
        drawn = [len(ops) for ops in policy.trace(np.arange(20_000), seed=0, epoch=0)]
        assert np.mean(drawn) == pytest.approx(policy.expected_ops(), abs=0.025)


class TestDiff:
    def other(self, tmp_path):
        path = tmp_path / "other.json"
        changed = [(name, p + (name == "Color"), m) for name, p, m in ACTIVE.settings]
        Schedule([(3, Policy(changed)), (3, Policy.none())]).save(path)
        return path

    def mine(self, tmp_path):
        path = tmp_path / "one.json"
        Schedule([(2, Policy.none()), (4, ACTIVE)]).save(path)
        return path

    def test_equal(self, file, capsys):
        assert main(["schedule", "diff", str(file), str(file)]) == 0
        assert capsys.readouterr().out == "the same policy in every epoch\n"

    def test_summary(self, tmp_path, capsys):
        """The distance by hand: ACTIVE's slots are Rotate 3, Invert 10, Color 1 and 2 tenths, against 28 of 30 others.

        Epochs 0 and 1: empty against Rotate .3, Invert 1, Color .2 and .3, 1.8 over 32 slots (30 empty ones, of which
        Rotate's and Invert's first are matched, and two of Color): 30 slots in all. Epoch 2: two slots differ by .1 of
        the 4 there are. Epochs 3 to 5: Rotate .3, Invert 1, Color .1 and .2 against nothing: 1.6 over 30.
        """
        assert main(["schedule", "diff", str(self.mine(tmp_path)), str(self.other(tmp_path))]) == 0
        distance = (2 * 1.8 / 30 + 0.2 / 4 + 3 * 1.6 / 30) / 6
        lines = capsys.readouterr().out.splitlines()
        assert lines[:2] == [
            f"distance: {distance:.4f} (0: the same; 1: every op always against never)",
            "epochs that differ: 6 of 6 (0-1, 2, 3-5)",
        ]
        assert re.fullmatch(r"ops per image: 0\.\d\d -> 0\.\d\d", lines[2])
        assert re.match(r"most changed, mean probability@magnitude: (Invert|Rotate|Color) 0", lines[3])
        assert len(lines) == 4

    def test_every_slot(self, tmp_path, capsys):
        assert main(["schedule", "diff", str(self.mine(tmp_path)), str(self.other(tmp_path)), "--all"]) == 0
        assert capsys.readouterr().out.splitlines()[4:] == [
            "epochs 0-1: none -> Rotate 0.3@±6, Color 0.2@0.1 0.3@1.72, Invert 1",
            "epochs 2: Color 1/0 -> 2/0, Color (2) 2/9 -> 3/9",
            "epochs 3-5: Rotate 0.3@±6, Color 0.1@0.1 0.2@1.72, Invert 1 -> none",
        ]

    def test_a_stretched_schedule_is_the_same(self, tmp_path, capsys):
        longer = tmp_path / "longer.json"
        Schedule.load(self.mine(tmp_path)).stretch(12).save(longer)
        assert main(["schedule", "diff", str(tmp_path / "one.json"), str(longer)]) == 0
        assert capsys.readouterr().out == "the same policy in every epoch\n"
        assert main(["schedule", "diff", str(self.other(tmp_path)), str(longer)]) == 0
        assert capsys.readouterr().out.startswith(
            "lengths: 6 against 12 epochs; the first is stretched to the second's\n"
        )

    def test_a_length_is_for_the_file_that_states_none(self, tmp_path, capsys):
        mine, log = str(self.mine(tmp_path)), str(tmp_path / "log.txt")
        (tmp_path / "log.txt").write_text(str([0] * 60))  # one policy, of no stated length
        assert main(["schedule", "diff", mine, log]) == 2
        assert "`epochs` must be given" in capsys.readouterr().err
        assert main(["schedule", "diff", mine, log, "--epochs", "12"]) == 0
        assert capsys.readouterr().out.startswith("lengths: 6 against 12 epochs; the first is stretched")
        picture = str(tmp_path / "both.svg")
        assert main(["schedule", "plot", mine, log, "--epochs", "12", "--out", picture]) == 0
        capsys.readouterr()
        assert main(["schedule", "show", mine, "--epochs", "12"]) == 2  # alone, it says what it holds
        assert "is 6 epochs long, but `epochs` is 12" in capsys.readouterr().err

    def test_names_take_the_other_length(self, tmp_path, capsys):
        assert main(["schedule", "diff", "autoaugment", str(self.mine(tmp_path))]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == "distance: none, since not all policies have slots with probability and magnitude"
        assert lines[1] == "epochs that differ: 6 of 6 (0-1, 2-5)"

    def test_a_run_directory(self, tmp_path, capsys):
        run = tmp_path / "run"
        run.mkdir()
        assert main(["schedule", "show", str(run)]) == 2
        assert "holds no A_T.json nor A_S.json: it is no run directory" in capsys.readouterr().err
        Schedule([(4, Policy.none())], role="teacher").save(run / "A_T.json")
        assert main(["schedule", "diff", str(run)]) == 2
        assert "holds one schedule: name another one" in capsys.readouterr().err
        Schedule([(4, ACTIVE)], role="student").save(run / "A_S.json")
        assert main(["schedule", "diff", str(run)]) == 0
        assert f"distance: {1.6 / 30:.4f}" in capsys.readouterr().out
        assert main(["schedule", "show", str(run)]) == 0
        out = capsys.readouterr().out
        assert out.index("run/A_T: 4 epochs") < out.index("run/A_S: 4 epochs")
        assert main(["schedule", "convert", str(run), str(tmp_path / "s.json")]) == 2
        assert "holds the schedules of both roles: choose one with `--role`" in capsys.readouterr().err
        assert main(["schedule", "convert", str(run), str(tmp_path / "s.json"), "--role", "student"]) == 0
        assert Schedule.load(tmp_path / "s.json").role == "student"
        assert main(["schedule", "plot", str(run), str(run), "--out", str(tmp_path / "p.svg")]) == 0
        picture = (tmp_path / "p.svg").read_text()
        assert picture.count("run/A_T") >= 2
        assert main(["schedule", "show", str(run), "--role", "pupil"]) == 2
        assert '`--role` must be "teacher" or "student", got "pupil"' in capsys.readouterr().err


class TestDistance:
    def test_bounds_and_symmetry(self):
        always = Policy([(name, 10, 9) for name, _, _ in Policy.none().settings])
        assert compare.policy_distance(always, Policy.none()) == pytest.approx(1.0)
        assert compare.policy_distance(always, always) == 0.0
        policies = [Schedule.random(1, seed)[0] for seed in range(4)]
        for one in policies:
            for two in policies:
                there = compare.policy_distance(one, two)
                assert there == pytest.approx(compare.policy_distance(two, one))
                assert (there == 0) == (one == two)
                assert 0 <= there < 1

    def test_copies_are_matched_as_it_costs_least(self):
        one, two = Policy([("Color", 2, 3), ("Color", 8, 5)]), Policy([("Color", 8, 5), ("Color", 2, 3)])
        assert one != two
        assert compare.policy_distance(one, two) == 0.0
        assert compare.policy_distance(one, Policy([("Color", 8, 5)])) == pytest.approx(0.2 / 2)

    def test_levels_cost_in_parts_of_their_range_and_nothing_where_there_are_none(self):
        assert compare.policy_distance(Policy([("Color", 6, 0)]), Policy([("Color", 4, 9)])) == pytest.approx(
            0.2 + 0.4
        )
        assert compare.policy_distance(Policy([("Invert", 6, 0)]), Policy([("Invert", 6, 9)])) == 0.0


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

    def test_a_strip_shows_each_epoch_as_a_run_sees_it(self):
        schedule = Schedule([(2, Policy.none()), (3, self.TINTED)])
        sheet = epoch_strip(schedule, self.IMAGES, seed=4, epochs=[0, 2, 4], ids=[7, 9], fill=(9, 8, 7))
        cells = self.cells(sheet, 4)
        np.testing.assert_array_equal(cells[0], self.IMAGES[0])
        for cell, epoch in zip(cells[1:], (0, 2, 4), strict=True):
            expected = schedule[epoch](self.IMAGES[0], seed=4, epoch=epoch, ids=[7], fill=(9, 8, 7))
            np.testing.assert_array_equal(cell, expected)
        with pytest.raises(InputError, match="`epochs` must hold at least one epoch"):
            epoch_strip(schedule, self.IMAGES, seed=4, epochs=[], ids=[7, 9], fill=(9, 8, 7))

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
        assert main([*arguments, "--variants", "2"]) == 0  # the last epoch
        latest = out.read_bytes()
        assert main([*arguments, "--epoch", "9", "--variants", "2"]) == 0
        assert out.read_bytes() == latest
        assert capsys.readouterr().out == 2 * f"wrote {out}\n"
        with Image.open(out) as sheet:
            assert sheet.width == 10 + 3 * 122
        assert main([*arguments, "--strip", "4"]) == 0
        with Image.open(out) as sheet:
            assert sheet.width == 10 + 5 * 122
        capsys.readouterr()
        assert main([*arguments, "--strip", "4", "--epoch", "1"]) == 2
        assert "leave one of them out" in capsys.readouterr().err
        assert main([*arguments, "--epoch", "10"]) == 2
        assert re.search("`epoch` must be an integer from 0 to 9, got 10", capsys.readouterr().err)
        assert main([*arguments[:-4], "--out", str(tmp_path / "none" / "a.png")]) == 2
        assert "The picture cannot be written" in capsys.readouterr().err
        assert main([*arguments[:-4], "--out", str(tmp_path / "a.doc")]) == 2
        assert "The picture cannot be written" in capsys.readouterr().err
        assert main([*arguments, "--size", "48"]) == 2
        assert '`size` is for "folder" alone' in capsys.readouterr().err

    def test_images_of_a_folder_at_their_own_size(self, tmp_path):
        ramp = np.tile(np.arange(48, dtype=np.uint8) * 5, (48, 1))  # as many levels as columns
        for part in ("train", "test"):
            for label in ("a", "b"):
                folder = tmp_path / "photos" / part / label
                folder.mkdir(parents=True)
                Image.fromarray(ramp).save(folder / "0.png")
        arguments = ["schedule", "preview", "autoaugment", "--epochs", "1", "--variants", "1"]
        arguments += ["--data", "folder", "--data-root", str(tmp_path / "photos")]
        levels = []
        for side in (32, 48):
            out = tmp_path / f"{side}.png"
            assert main([*arguments, "--size", str(side), "--out", str(out)]) == 0
            with Image.open(out) as sheet:
                original = np.asarray(sheet.convert("L"))[:, 6:120]
            levels.append(max(len(np.unique(row)) for row in original))
        assert 32 <= levels[0] < 48 <= levels[1]
