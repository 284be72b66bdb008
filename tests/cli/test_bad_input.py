"""Bad input on the command line: status 2, one clear message, no traceback, nothing written."""

import re
import subprocess
import sys

import pytest

from rolewise.cli import main


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "--data", "digit"], 'Unknown data set "digit"'),
        (["run", "--data", "cifar10", "--data-root", "nowhere"], "nowhere"),
        (["run", "--data", "cifar10"], "--data-root"),
        (["run", "--set", "teacher.network=resnet19"], 'Unknown network "resnet19".*Did you mean "resnet18"'),
        (["run", "--kd", "rdk"], 'Unknown KD loss "rdk".*Did you mean "rkd"'),
        (["run", "--kd", "mine.py:Loss"], "There is no file"),
        (
            ["run", "--set", "teacher.train.epochs=0"],
            "`teacher.train.epochs` must be greater than or equal to 1, got 0",
        ),
        (
            ["run", "--set", "search.population=3"],
            "`search.population` must be greater than or equal to 4, got 3",
        ),
        (["run", "--set", "search.interval=99"], "`search.interval` must be at most `epochs`"),
        (["run", "--set", "teacher.train.batch_size=5000"], "batch"),
        (["run", "--set", "student.weight_bits=0"], "bits must be 1 to 8, or 32 for full precision, got 0"),
        (["run", "--set", "student.act_bits=33"], "bits must be 1 to 8, or 32 for full precision, got 33"),
        (["run", "--set", "studnt.act_bits=2"], 'Unknown setting "studnt"|Unknown setting "studnt.act_bits"'),
        (["run", "--preset", "papers"], "Unknown preset"),
        (["run", "--config", "none.yaml"], "there is no file none.yaml"),
        (["run", "--resume", "nowhere"], "nowhere is not a run directory"),
        (["run", "--device", "cuda:99"], "PyTorch sees no CUDA device|cuda"),
        (["search", "--role", "pupil"], 'Unknown role "pupil"'),
        (["search", "--role", "teacher", "--engine", "spark"], "`search.engine`"),
        (
            ["train", "--role", "student", "--out", "x", "--schedule", "none"],
            "has no teacher yet.*--teacher FILE",
        ),
        (["train", "--role", "teacher", "--out", "x"], "has no A_T.json yet.*--schedule none"),
        (["train", "--role", "teacher", "--schedule", "gone.json"], "There is no file gone.json"),
        (
            ["run", "--set", "teacher.epochs=3"],
            'Unknown setting "teacher.epochs".*Did you mean "teacher.train.epochs"',
        ),
        (["run", "--set", "weight_bits=3"], 'Did you mean "student.weight_bits"'),
        (["run", "--set", "kd.arguments.gamma=2"], "argument 'gamma'. Its arguments: .*heads=8"),
        (["eval", "gone.safetensors"], "There is no file or folder gone.safetensors"),
        (["eval", "."], "neither a run directory .* nor a saved network"),
        (["predict", ".", "cat.png"], "neither a run directory .* nor a saved network"),
        (["export", ".", "x.onnx"], "neither a run directory .* nor a saved network"),
        (["export", "gone.safetensors", "x.onnx"], "gone"),
        (["report", "nowhere"], "nowhere is not a run directory: there is no such folder"),
    ],
)
def test_status_two_and_one_message(capsys, arguments, words, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    status = main([*arguments, "--quiet"] if arguments[0] in ("run", "search", "train") else arguments)
    out, err = capsys.readouterr()
    assert status == 2, err
    flat = " ".join(err.split())
    assert re.search(words, flat), err
    assert "Traceback" not in err
    assert out == ""
    assert sorted(tmp_path.rglob("*")) == before


def test_weights_where_a_network_is_expected(tmp_path, capsys):
    (tmp_path / "teacher.pth").write_bytes(b"weights")
    assert main(["run", "--teacher", "teacher.pth", "--quiet"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "holds weights and no network: name both, --network NAME" in said
    assert "--teacher-weights teacher.pth" in said
    assert [path.name for path in tmp_path.iterdir()] == ["teacher.pth"]


def test_an_existing_run_directory_is_left_alone(tmp_path, capsys):
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "thesis.txt").write_text("years of work")
    assert main(["run", "--out", str(taken), "--quiet"]) == 2
    assert "thesis.txt" in capsys.readouterr().err
    assert [path.name for path in taken.iterdir()] == ["thesis.txt"]
    assert (taken / "thesis.txt").read_text() == "years of work"


def test_help_answers_at_once_and_imports_no_torch():
    code = (
        "import sys, contextlib, io\n"
        "from rolewise.cli import main\n"
        "with contextlib.redirect_stdout(io.StringIO()) as shown:\n"
        "    assert main({}) == 0\n"
        "assert 'Usage' in shown.getvalue()\n"
        "print(sorted({{'torch', 'numba', 'numpy', 'matplotlib'}} & set(sys.modules)))"
    )
    for arguments in (
        ["--help"],
        ["run", "--help"],
        ["search", "--help"],
        ["schedule", "show", "--help"],
        ["data", "check", "--help"],
    ):
        shown = subprocess.run(
            [sys.executable, "-c", code.format(arguments)], capture_output=True, text=True, check=True
        )
        assert shown.stdout.strip() == "[]"
