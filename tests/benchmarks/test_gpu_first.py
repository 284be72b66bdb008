"""What is done first on a GPU: on the CPU with no other packages than it names, on the fake device, its rules."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "benchmarks"))
SCRIPT = ROOT / "benchmarks" / "gpu_first.py"
ALLOWED = ("torch", "numpy", "numba", "pydantic", "safetensors", "filelock")


def closure(names):
    """Distributions, and those that they themselves need."""
    found, waiting = {}, list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        try:
            found[name] = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # for another system
        needs = [need for need in found[name].requires or [] if "extra ==" not in need]
        waiting += [re.match(r"[\w.-]+", need)[0] for need in needs]
    return found


@pytest.fixture(scope="module")
def few_packages(tmp_path_factory):
    """A folder that holds the allowed distributions and nothing else."""
    folder = tmp_path_factory.mktemp("few")
    for distribution in closure(ALLOWED).values():
        for file in distribution.files:
            top = file.parts[0]
            if top not in ("..", "__pycache__") and not (folder / top).exists():
                (folder / top).symlink_to(Path(distribution.locate_file(top)).resolve())
    assert {"torch", "numpy", "pydantic_core"} <= set(os.listdir(folder))
    return folder


def python(few_packages, *arguments):
    """Runs without the site's packages."""
    environment = {**os.environ, "PYTHONPATH": str(few_packages), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-S", *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_other_packages_are_not_there(few_packages):
    for name in ("jaxtyping", "PIL", "yaml", "rich", "typer", "matplotlib", "pytest", "rolewise"):
        assert "ModuleNotFoundError" in python(few_packages, "-c", f"import {name}").stderr, name
    assert python(few_packages, "-c", "import " + ", ".join(ALLOWED)).returncode == 0


def figures_of(folder):
    return json.loads((folder / "gpu.json").read_text("utf-8"))


@pytest.mark.timeout(1800)  # half a minute, but for a machine that does much else
def test_all_of_it_in_two_calls_on_two_machines(few_packages, tmp_path):
    options = ("--device", "cpu", "--smoke", "--commit", "abc")
    first = python(few_packages, SCRIPT, "measure", "--out", tmp_path / "one", *options)
    assert first.returncode == 0, first.stdout + first.stderr
    earlier = tmp_path / "one" / "gpu.json"
    content = figures_of(tmp_path / "one")
    content["machines"][0]["hardware"]["gpus"] = ["another one"]
    earlier.write_text(json.dumps(content), "utf-8")
    second = python(few_packages, SCRIPT, "row", "--out", tmp_path / "two", *options, "--earlier", earlier)
    assert second.returncode == 0, second.stdout + second.stderr
    found = figures_of(tmp_path / "two")
    figures = found["figures"]
    assert [machine["hardware"]["gpus"] for machine in found["machines"]] == [[], ["another one"]]
    assert {figures[name]["machine"] for name in figures if name.startswith("row")} == {0}
    assert {figures[name]["machine"] for name in figures if not name.startswith("row")} == {1}
    assert found["commit"] == "abc"
    assert found["machines"][0]["jaxtyping missing"] is True
    checks = [name for name in figures if name.startswith("check") and "not here" not in figures[name]]
    assert len(checks) == 4
    assert all(figures[name]["ok"] for name in checks)
    assert len(figures["check: losses"]) == 22 + 3
    assert figures["throughput: 4-bit + ii-kd"]["eager"]["images/s"]["median"] > 0
    assert figures["throughput: plain"]["graphed"] == {"left out": "no CUDA device"}
    assert figures["profile"]["plain"]["kernels"] > 50
    assert (tmp_path / "one" / figures["profile"]["plain"]["file"]).stat().st_size > 1000
    assert figures["processes"]["3 processes"]["images/s"] > 0
    arms = [name for name in figures if name.startswith("row") and "accuracy" in figures[name]]
    assert arms == ["row: teacher", *(f"row: {arm}" for arm in ("KD only", "A_S", "random", "A_T", "plain")),
                    "row: KD only, second seed", "row: A_S, second seed"]  # fmt: skip
    assert all(figures[name]["n"] == 360 for name in arms)
    for name in ("A_T", "A_S"):
        unit = {"A_T": "row: search alpha", "A_S": "row: search beta"}[name]
        assert json.loads((tmp_path / "two" / f"{name}.json").read_text("utf-8")) == figures[unit]["schedule"]
    assert found["expected"] == []  # tiny sizes say nothing


@pytest.mark.timeout(3600)  # a minute and a half
def test_all_of_it_on_the_fake_device(fake_device, tmp_path):
    """Both calls, the processes that they start too: nothing raises, though no value is any."""
    path = os.pathsep.join([str(ROOT / "tests" / "gpu" / "every_process"), *filter(None, sys.path)])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}

    def call(part, *options):
        command = [sys.executable, SCRIPT, part, "--smoke", "--out", tmp_path / part, *options]
        run = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert "Traceback" not in run.stderr, run.stderr
        return run

    first = call("measure")
    assert first.returncode == 1, first.stderr
    wrong = [line.split(": ", 1)[1] for line in first.stderr.splitlines() if line.startswith("failed, wrong")]
    content = figures_of(tmp_path / "measure")
    assert wrong == [
        name for name in content["figures"] if name.startswith("check") and "compiled" not in name
    ]
    figures = content["figures"]
    assert not any("failed" in unit for unit in figures.values())
    assert figures["lanes: plain"]["stayed eager"] == []
    assert figures["processes"]["3 processes"]["images/s"] > 0
    assert "graph to eager" in figures["check: graph against eager"]["4-bit + ii-kd, deterministic"]
    # What a device with values says, so that the second call takes recorded steps, and the dearest loss.
    figures["check: graph against eager"]["ok"] = True
    figures["throughput: 4-bit + ii-kd"]["graphed"]["ms a step"]["median"] = 7.0
    earlier = tmp_path / "gpu.json"
    earlier.write_text(json.dumps(content), "utf-8")
    second = call("row", "--earlier", earlier)
    assert second.returncode == 0, second.stderr
    rows = {
        name: unit for name, unit in figures_of(tmp_path / "row")["figures"].items() if name.startswith("row")
    }
    assert len(rows) == 11
    assert {name: unit["stayed eager"] for name, unit in rows.items() if unit.get("stayed eager")} == {}
    assert rows["row: search beta"]["loss"] == rows["row: pace"]["loss"] == "ii-kd"


@pytest.fixture
def book(tmp_path):
    from gpu_book import Book

    def make(folder="one", machine="a", **changes):
        about = {"commit": "1", "options": {"smoke": False}, "measured": "2026-01-01", **changes}
        return Book(tmp_path / folder, about, {"gpus": [machine]})

    return make


def done(book, todo, left=lambda: 1e9, apart=None):
    from gpu_book import Unit, work

    units = {name: unit if isinstance(unit, Unit) else Unit(unit, 1) for name, unit in todo.items()}
    return work(book, units, left, apart)


def test_nothing_keeps_a_unit_from_its_turn(book, capsys):
    def broken(until):
        raise RuntimeError("out of memory")

    ran = []
    todo = {
        "check": lambda until: {"ok": False},
        "broken": broken,
        "speed": lambda until: ran.append(until - time.monotonic()) or {"a": 1},
    }
    assert done(book(), todo) == 1
    assert ran[0] <= 2  # seconds: twice what it should take
    assert capsys.readouterr().err.splitlines()[-2:] == [
        "failed, wrong or left out: check",
        "failed, wrong or left out: broken",
    ]
    figures = book().figures
    assert figures["broken"]["failed"] == "RuntimeError: out of memory"
    assert figures["speed"]["a"] == 1
    todo["broken"] = lambda until: {"b": 2}  # what failed is tried again, nothing else
    assert done(book(), todo) == 1
    assert book().figures["broken"]["b"] == 2
    assert len(ran) == 1


def test_a_unit_that_does_not_fit_is_left_out(book):
    from gpu_book import Unit

    todo = {"long": Unit(lambda until: {"a": 1}, 30), "short": Unit(lambda until: {"a": 1}, 3)}
    assert done(book(), todo, left=lambda: 10.0) == 1
    assert book().figures["long"]["left out"] == "10 s left, about 30 s needed"
    assert book().figures["short"]["a"] == 1
    assert done(book(), todo) == 0


def test_a_unit_apart(book):
    from gpu_book import Unit

    asked = []
    todo = {"compiled": Unit(lambda until: pytest.fail("not here"), 3, apart=True)}
    assert done(book(), todo, apart=lambda name, until: asked.append(name) or {"a": 1}) == 0
    assert asked == ["compiled"]


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # the fork, from Python 3.12 on
def test_a_unit_that_kills_its_process_costs_itself_alone(book, capsys):
    """Processes, two of which die: of a crash, and of a device that answers no longer."""
    from gpu_book import LOST, Unit, supervised, work

    def unit(name):
        def call(until):
            if name == "crash":
                os.kill(os.getpid(), signal.SIGKILL)
            if name == "sticky":
                raise RuntimeError("CUDA error: an illegal memory access was encountered")
            return {"pid": os.getpid()}

        return Unit(call, 1)

    def start(fatal):
        if (child := os.fork()) == 0:
            names = ("one", "crash", "two", "sticky", "three")
            made = {name: unit(name) for name in names if name not in fatal}
            import gpu_book

            gpu_book.torch.cuda.is_available = lambda: True
            gpu_book._usable = lambda: "failed" not in one.figures.get("sticky", {}) or "sticky" in fatal
            one = book()
            os._exit(work(one, made, lambda: 1e9, None))
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    assert supervised(book().path, start) == 1
    content = json.loads(book().path.read_text("utf-8"))
    figures = content["figures"]
    assert figures["crash"]["failed"] == "the process died of SIGKILL"
    assert figures["sticky"]["failed"].startswith("RuntimeError: CUDA error")
    assert len({figures[name]["pid"] for name in ("one", "two", "three")}) == 3
    assert "under way" not in content
    assert LOST not in (0, 1, 2)


def test_a_process_that_cannot_begin_is_not_begun_again(tmp_path):
    from gpu_book import supervised

    calls = []
    assert supervised(tmp_path / "gpu.json", lambda fatal: calls.append(fatal) or 2) == 2
    assert supervised(tmp_path / "gpu.json", lambda fatal: calls.append(fatal) or -9) == -9
    assert len(calls) == 2


def content_of(**changes):
    machine = {"versions": {"torch": "2.11.0"}, "commit": "c" * 40, "hardware": {"gpus": ["one"]}}
    figures = {
        "throughput: plain": {"graphed": {"images/s": {"median": 50_000}}, "machine": 0},
        "tests": {"ok": False, "end": ["/opt/lib/x.py:3: UserWarning", "FAILED a", "1 failed"], "machine": 0},
        "compiled": {"left out": "no time", "machine": 0},
        "row: A_S": {"accuracy": 0.5, "machine": 0},
    }
    options = {"device": "cuda", "smoke": False}
    return {"commit": "c" * 40, "options": options, "measured": "2026-01-01", "machines": [machine],
            "figures": figures, **changes}  # fmt: skip


def test_results_are_made_of_what_comes_back(tmp_path):
    later = content_of(
        figures={"compiled": {"a": 1, "machine": 0}, "throughput: plain": {"failed": "x", "machine": 0}}
    )
    for name, content in (("one", content_of()), ("two", later)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content), "utf-8")
    script = ROOT / "benchmarks" / "gpu_results.py"

    def call(part, *names):
        files = [tmp_path / f"{name}.json" for name in names]
        words = [*files, "--part", part, "--results", tmp_path / "new" / f"{part}.json", "--command", "c"]
        run = subprocess.run([sys.executable, script, *map(str, words)], capture_output=True, text=True)
        return run, tmp_path / "new" / f"{part}.json"

    run, path = call("measure", "one", "two")
    assert run.returncode == 0, run.stderr
    made = json.loads(path.read_text("utf-8"))
    assert made["figures"] == {
        "throughput: plain": {"graphed": {"images/s": {"median": 50_000}}},
        "tests": {"ok": False, "end": ["FAILED a", "1 failed"]},
        "compiled": {"a": 1},
    }
    assert [row["measured"] for row in made["expected"]] == [50_000]
    assert made["environment"]["hardware"] == {"gpus": ["one"]}
    made = json.loads(call("row", "one")[1].read_text("utf-8"))
    assert made["figures"] == {"row: A_S": {"accuracy": 0.5}}
    assert "expected" not in made
    for changes, text in (
        ({"commit": "d" * 40}, "several commits, options or machines"),
        ({"machines": [{"hardware": {"gpus": ["two"]}}]}, "several commits, options or machines"),
    ):
        (tmp_path / "two.json").write_text(json.dumps(content_of(**changes)), "utf-8")
        run, _ = call("measure", "one", "two")
        assert run.returncode == 2
        assert text in run.stderr
    tiny = content_of(options={"device": "cuda", "smoke": True})
    (tmp_path / "one.json").write_text(json.dumps(tiny), "utf-8")
    assert "Tiny sizes" in call("measure", "one")[0].stderr


def test_what_an_earlier_machine_wrote_is_reused(book, capsys):
    from rolewise.errors import InputError

    first = book("one", "a")
    first.keep("speed", {"b": 1})
    second = book("two", "b", measured="2026-02-02")
    second.keep("check", {"ok": True})
    second.reuse(first.path)
    assert second.done("speed")
    assert second.content["machines"] == [{"gpus": ["b"]}, {"gpus": ["a"]}]
    assert (second.figures["speed"]["machine"], second.figures["check"]["machine"]) == (1, 0)
    third = book("three", commit="2")
    third.reuse(first.path)
    assert third.figures == {}
    assert "is of other commit: nothing of it is reused" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"gpu\.json is of other commit and options\. Name another `--out`"):
        book("one", commit="2", options={"smoke": True})


def test_what_was_expected_stands_beside_what_was_measured(book):
    from gpu_book import EXPECTED, compared

    one = book()
    one.keep("throughput: plain", {"graphed": {"images/s": {"median": 39_000}}})
    one.keep("lanes: plain", {"4 lanes": {"left out": "memory"}})
    assert one.content["expected"] == [
        {"what": "float, recorded, images/s", "expected": [40_000, 52_000], "measured": 39_000}
    ]
    assert compared({}) == []
    page = (ROOT / "docs" / "performance.md").read_text("utf-8")
    for what, (_, _, low, high) in EXPECTED.items():
        expected = f"{low:,}" if low == high else f"{low:,} to {high:,}"
        assert f"| {what} | {expected} |" in page


def test_the_calls_of_the_docstring(monkeypatch):
    """Each fits into 2,000 characters, and the script understands its arguments."""
    import gpu_first

    blocks = re.findall(r"(?:^    .*\n)+", gpu_first.__doc__, re.MULTILINE)
    calls = [block for block in blocks if "python3 benchmarks/gpu_first.py" in block]
    assert len(calls) == 2
    parts = []
    for call in calls:
        assert len(call) <= 2000
        words = call.replace("\\\n", " ")
        (line,) = [line.strip() for line in words.splitlines() if "gpu_first.py" in line]
        line = line.replace("$(cat .gpu/commit)", "abc").replace("$earlier", "--earlier gpu.json")
        monkeypatch.setattr(sys, "argv", line.split()[1:])
        options = gpu_first.arguments()
        parts.append(options.part)
        assert options.device == "cuda"
        assert options.commit == "abc"
    assert parts == ["measure", "row"]
    assert subprocess.run(["bash", "-n", "-c", "\n".join(calls)]).returncode == 0


@pytest.mark.parametrize(
    ("graphed", "ok", "loss"),
    [(7.0, True, "ii-kd"), (9.0, True, "soft"), (7.0, False, "soft"), (None, True, "soft")],
)
def test_the_rows_loss_follows_the_measurement(tmp_path, graphed, ok, loss):
    from gpu_row import SMOKE, Row

    figures = {"check: graph against eager": {"ok": ok}}
    if graphed is not None:
        figures["throughput: 4-bit + ii-kd"] = {"graphed": {"ms a step": {"median": graphed}}}
    row = Row(SMOKE, tmp_path, None, "cuda", figures)
    assert row.loss == loss
    assert row.recorded is ok


def test_a_part_of_cifar100(tmp_path):
    """Records written by hand: coarse label, label, planes."""
    from gpu_parts import part_of_cifar100

    folder = tmp_path / "cifar-100-binary"
    folder.mkdir()
    (folder / "fine_label_names.txt").write_text("".join(f"name{k}\n" for k in range(100)), "utf-8")
    planes = [bytes([10] * 1023 + [11]), bytes([20] * 1024), bytes([30] * 1024)]
    record = bytes([7, 42]) + b"".join(planes)
    (folder / "train.bin").write_bytes(record + bytes([0, 5]) + bytes(3072))
    (folder / "test.bin").write_bytes(record)
    data = part_of_cifar100(tmp_path)
    assert data.train.labels.tolist() == [42, 5]
    assert data.train.images.shape == (2, 32, 32, 3)
    assert data.train.images[0, 0, 0].tolist() == [10, 20, 30]
    assert data.train.images[0, 31, 31].tolist() == [11, 20, 30]
    assert data.classes[42] == "name42"
    assert data.test.labels.tolist() == [42]
    assert data.test.mean == data.train.mean
