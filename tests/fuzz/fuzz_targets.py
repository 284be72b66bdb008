"""What is fuzzed: each target changes valid input and hands it to a command, which must end with a status of its own.

A target yields (what was done, status, what was printed to stderr). A traceback, or a status that
is none of 0, 1, 2 and 75 is a failure; see `test_fuzz.py` and `soak.py`.
"""

import contextlib
import io
import json
import pickle
import random
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from fuzz_mutations import ODD, Mutation, mutated_bytes, mutated_json, mutated_lines, mutated_tree
from PIL import Image

from rolewise.cli import main
from rolewise.config import PRESETS, load_config

STATUSES = (0, 1, 2, 75)
SMALL = (
    "search.population=4", "search.epochs=1", "teacher.train.epochs=1", "student.train.epochs=1",
    "kd.prepare_epochs=1", "data.search_train=64", "data.search_validation=32", "search.batch_size=32",
    "machine.threads=1", "machine.workers=1", "machine.precision=fp32", "kd.loss=soft",
)  # fmt: skip
Attempt = tuple[str, int, str]


def call(*arguments: str) -> tuple[int, str]:
    """Status and stderr of a command in this process."""
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        try:
            status = main(list(arguments))
        except BaseException as error:  # nothing may leave `main`
            return -1, f"{type(error).__name__}: {error}"
    return status, errors.getvalue()


def faulty(attempt: Attempt) -> bool:
    """Whether a command ended in a way that it may not: another status, a traceback, or pages of text."""
    _, status, errors = attempt
    return status not in STATUSES or "Traceback" in errors or len(errors) > 20_000


def unforeseen(attempt: Attempt) -> bool:
    """Whether only the last resort of `main` knew the error: one line and a file, but no way out."""
    return "does not foresee" in attempt[2]


def settings(work: Path, rng: random.Random) -> Iterator[Attempt]:
    """Settings files with faults; sound ones stop at the dry run's check of names and numbers."""
    base = load_config(preset=rng.choice(sorted(PRESETS))).model_dump(mode="json")
    path = work / "settings.json"
    while True:
        if rng.random() < 0.3:
            assignment = f"{rng.choice(list(_names(base)))}={json.dumps(rng.choice(ODD))}"
            yield assignment, *call("config", "check", "--set", assignment)
        else:
            path.write_text(json.dumps(mutated_tree(base, rng)), "utf-8")
            status, errors = call("config", "check", "--config", str(path))
            yield path.read_text("utf-8")[:3000], status, errors


def _names(tree: dict, prefix: str = "") -> Iterator[str]:
    for key, value in tree.items():
        yield prefix + key
        if isinstance(value, dict):
            yield from _names(value, f"{prefix}{key}.")


def small_run(work: Path) -> Path:
    """A whole run of a few seconds, whose files are then changed."""
    run = work / "sound"
    if not run.exists():
        options = [text for setting in SMALL for text in ("--set", setting)]
        status, errors = call("run", "--out", str(run), "--quiet", "--no-speed", *options)
        assert status == 0, errors
    return run


def records(work: Path, rng: random.Random) -> Iterator[Attempt]:
    """Run directories in which one file was changed, given to the commands that read them."""
    sound, broken = small_run(work), work / "broken"
    kinds: dict[str, Mutation] = {
        "config.json": mutated_json, "results.json": mutated_json, "stages.json": mutated_json,
        "A_T.json": mutated_json, "teacher.json": mutated_json, "metrics.jsonl": mutated_lines,
        "lineage.jsonl": mutated_lines, "student.safetensors": mutated_bytes, "student.json": mutated_json,
    }  # fmt: skip
    while True:
        name = rng.choice(sorted(kinds))
        shutil.rmtree(broken, ignore_errors=True)
        shutil.copytree(sound, broken)
        file = broken / name
        if not file.exists():
            continue
        file.write_bytes(kinds[name](file.read_bytes(), rng))
        about = f"{name}: {file.read_bytes()[:3000]!r}"
        commands = (
            ("report", str(broken), "--out", str(work / "report.html")),
            ("eval", str(broken)),
            ("run", "--resume", str(broken), "--quiet", "--no-speed"),
            ("export", str(broken), str(work / "out.safetensors")),
        )
        chosen = rng.choices(commands, (6, 1, 2, 2))[0]
        yield f"{chosen[0]} {about}", *call(*chosen)


def schedules(work: Path, rng: random.Random) -> Iterator[Attempt]:
    """Schedule files: our JSON, and logs of PBA and of Ray."""
    import rolewise as rw

    rw.Schedule.random(6, seed=0).save(work / "s.json")
    logs = {
        "s.json": (work / "s.json").read_bytes(),
        "pba.txt": json.dumps([["0", "1", 0, 0, {"hp_policy": [0] * 60}, {"hp_policy": [1] * 60}]]).encode(),
    }
    while True:
        name = rng.choice(sorted(logs))
        path = work / f"broken-{name}"
        path.write_bytes((mutated_json if name == "s.json" else mutated_lines)(logs[name], rng))
        command = rng.choice((("show",), ("convert",)))
        arguments = [*command, str(path)] + (
            [str(work / "converted.json")] if command == ("convert",) else []
        )
        status, errors = call("schedule", *arguments)
        yield f"{arguments} {path.read_bytes()[:2000]!r}", status, errors


def networks(work: Path, rng: random.Random) -> Iterator[Attempt]:
    """Files of networks, whole and packed."""
    sound = small_run(work)
    packed = work / "packed.safetensors"
    if not packed.exists():
        assert call("export", str(sound), str(packed))[0] == 0
    path = work / "network.safetensors"
    while True:
        source = rng.choice((sound / "student.safetensors", packed))
        path.write_bytes(source.read_bytes())
        sidecar = source.with_suffix(".json")
        if sidecar.exists():
            path.with_suffix(".json").write_bytes(sidecar.read_bytes())
        victim = path if rng.random() < 0.6 or not sidecar.exists() else path.with_suffix(".json")
        victim.write_bytes((mutated_bytes if victim == path else mutated_json)(victim.read_bytes(), rng))
        status, errors = call("eval", str(path), "--data", "digits")
        yield f"{victim.name} of {source.name}", status, errors


def folders(work: Path, rng: random.Random) -> Iterator[Attempt]:
    """Folders of images, some of them broken or odd."""
    numbers = np.random.default_rng(rng.randrange(2**32))
    while True:
        root = work / "images"
        shutil.rmtree(root, ignore_errors=True)
        for part in ("train", "test"):
            for label in ("a", "b"):
                folder = root / part / label
                folder.mkdir(parents=True)
                for number in range(3):
                    size = rng.choice(((32, 32), (1, 1), (40, 17), (300, 2)))
                    mode = rng.choice(("RGB", "L", "RGBA", "P", "1", "CMYK"))
                    pixels = numbers.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
                    suffix = "jpg" if mode in ("RGB", "L", "CMYK") and rng.random() < 0.5 else "png"
                    if mode == "CMYK":
                        suffix = "jpg"
                    Image.fromarray(pixels).convert(mode).save(folder / f"{number}.{suffix}")
        files = sorted(root.rglob("*.*"))
        for _ in range(rng.randint(0, 3)):
            file = rng.choice(files)
            if file.exists():
                file.write_bytes(mutated_bytes(file.read_bytes(), rng))
        if rng.random() < 0.2:
            shutil.rmtree(rng.choice((root / "test", root / "train" / "a")), ignore_errors=True)
        arguments = ["data", "check", "folder", "--data-root", str(root)]
        yield str([f.relative_to(root) for f in files]), *call(*arguments)


def archives(work: Path, rng: random.Random) -> Iterator[Attempt]:
    """CIFAR-10's archive and its files, in small and broken."""
    parts = {"batches.meta": {b"label_names": [b"a"] * 10}}
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        parts[name] = {b"data": np.zeros((4, 3072), np.uint8), b"labels": [0, 1, 2, 3]}
    files = {name: pickle.dumps(part, protocol=2) for name, part in parts.items()}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    root = work / "cifar"
    while True:
        shutil.rmtree(root, ignore_errors=True)
        folder = root / "cifar-10-batches-py"
        folder.mkdir(parents=True)
        broken = rng.choice(["the archive", *files])
        if broken == "the archive":
            folder.rmdir()
            (root / "cifar-10-python.tar.gz").write_bytes(mutated_bytes(packed.getvalue(), rng))
        else:
            for name, data in files.items():
                (folder / name).write_bytes(mutated_bytes(data, rng) if name == broken else data)
        yield broken, *call("data", "check", "cifar10", "--data-root", str(root))


TARGETS: dict[str, Callable[[Path, random.Random], Iterator[Attempt]]] = {
    "settings": settings,
    "records": records,
    "schedules": schedules,
    "networks": networks,
    "folders": folders,
    "archives": archives,
}
