"""Compares finished runs: on the same test images, and over seeds where several of each are given."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from rolewise.errors import InputError, first_line, unknown
from rolewise.experiments.statistics import (
    Difference,
    McNemar,
    Summary,
    mcnemar,
    paired_difference,
    summarize,
    wilson_interval,
)
from rolewise.runs import layout, read_config, read_results

ALPHA = 0.05
_AVERAGED = "accuracy_averaged"


@dataclass(frozen=True)
class TestedRun:
    """One run and its test.

    Args:
        path: run directory.
        key: row of its results, such as "student"; "student-averaged" is the averaged weights of that training.
        seed: base seed.
        accuracy: accuracy on the test images, a fraction.
        n: number of test images.
        right: per test image, True if it was classified correctly; None where the run kept no predictions.
        labels: labels of the test images; None likewise.
        averaged_too: True if these are the last weights of a training whose averaged weights were tested as well.
    """

    path: Path
    key: str
    seed: int
    accuracy: float
    n: int
    right: Tensor | None
    labels: Tensor | None
    averaged_too: bool = False

    @property
    def interval(self) -> tuple[float, float]:
        """What the finite test set leaves open: Wilson's 95 % interval."""
        return wilson_interval(self.accuracy, self.n)


@dataclass(frozen=True)
class Arm:
    """One side of a comparison: the same thing with one or several seeds.

    Args:
        name: name in the table.
        runs: runs in the order given.
    """

    name: str
    runs: tuple[TestedRun, ...]

    @property
    def summary(self) -> Summary:
        """Mean, deviation and interval over the seeds."""
        return summarize([run.accuracy for run in self.runs])

    @property
    def interval(self) -> tuple[float, float, str]:
        """Ends of the accuracy's 95 % interval, and of what: "seeds" (Student t), or test "images" with one seed."""
        found = self.summary
        if found.low is None or found.high is None:
            return (*self.runs[0].interval, "images")
        return found.low, found.high, "seeds"


@dataclass(frozen=True)
class Compared:
    """An arm against the first one.

    Args:
        arm: the arm.
        difference: this arm less the first, over the seeds that both have; None without a common seed.
        tests: seed -> McNemar's test of the pair on the same test images, where both kept predictions.
        missing: why there is no McNemar test; "" where there is one.
    """

    arm: Arm
    difference: Difference | None
    tests: dict[int, McNemar]
    missing: str

    @property
    def noise(self) -> str:
        """Whose noise the difference is held against: "seeds", test "images", or "" where there is neither."""
        if self.difference is not None and self.difference.low is not None:
            return "seeds"
        return "images" if self.tests else ""

    @property
    def verdict(self) -> str:
        """Whether the difference is beyond that noise."""
        if self.noise == "seeds":
            assert self.difference is not None
            inside = self.difference.inside_noise
        elif self.noise == "images":
            inside = max(test.p_value for test in self.tests.values()) >= ALPHA
        else:
            return "cannot be said"
        return "inside the noise" if inside else "beyond the noise"


def compare(groups: Sequence[str], key: str | None = None) -> tuple[Arm, list[Compared]]:
    """The first arm, and every other one against it.

    Args:
        groups: each one run directory, or several of the same thing separated by commas (seeds). "RUN:KEY" takes the
            row KEY of that run; "RUN:KEY-averaged" the averaged weights of that training, where they were tested.
        key: row of the results to compare, likewise; None takes the student's, or the teacher's where there is none.

    Raises:
        InputError: fewer than two, no run directory, no test in one, a seed twice in one arm, other test images, or
            predictions that cannot be read.
    """
    if len(groups) < 2:
        raise InputError("Give at least two runs to compare: rolewise compare RUN_A RUN_B.")
    arms = [_arm(group, key) for group in groups]
    sizes = {run.n for arm in arms for run in arm.runs}
    if len(sizes) > 1:
        raise InputError(f"These runs were tested on different numbers of images: {sorted(sizes)}.")
    first, *others = arms
    return first, [_against(first, arm) for arm in others]


def lines(first: Arm, others: Sequence[Compared]) -> list[dict[str, Any]]:
    """The comparison as a table for further work: a line for each arm; accuracies and differences are fractions.

    What is not there (a difference of the first arm, an interval of one seed) is None. `interval_of` says what the
    accuracy's interval is of: "seeds" (Student t) or test "images" (Wilson).
    """
    return [_line(first, None), *(_line(one.arm, one) for one in others)]


def _line(arm: Arm, compared: Compared | None) -> dict[str, Any]:
    low, high, source = arm.interval
    difference = None if compared is None else compared.difference
    tests = {} if compared is None else compared.tests
    return {
        "run": arm.name,
        "network": arm.runs[0].key,
        "seeds": " ".join(str(run.seed) for run in arm.runs),
        "n": len(arm.runs),
        "images": arm.runs[0].n,
        "accuracy": arm.summary.mean,
        "accuracy_low": low,
        "accuracy_high": high,
        "interval_of": source,
        "difference": None if difference is None else difference.mean,
        "difference_low": None if difference is None else difference.low,
        "difference_high": None if difference is None else difference.high,
        "probability_of_improvement": None
        if difference is None or difference.n < 2
        else difference.improvement,
        "mcnemar_p": " ".join(f"{test.p_value:.6g}" for test in tests.values()) or None,
        "verdict": None if compared is None else compared.verdict,
        "noise_of": None if compared is None else compared.noise or None,
    }


def _against(first: Arm, arm: Arm) -> Compared:
    here, there = ({run.seed: run for run in one.runs} for one in (arm, first))
    seeds = [seed for seed in here if seed in there]
    # One run of each is a pair of networks even if their seeds differ.
    pairs = [(here[seed], there[seed]) for seed in seeds]
    if not pairs and len(arm.runs) == len(first.runs) == 1:
        pairs = [(arm.runs[0], first.runs[0])]
    difference = (
        paired_difference([one.accuracy for one, _ in pairs], [other.accuracy for _, other in pairs])
        if pairs
        else None
    )
    tests, missing = {}, "" if pairs else "no common seed"
    for one, other in pairs:
        if one.right is None or other.right is None:
            without = one if one.right is None else other
            missing = f"{without.path} kept no predictions of {without.key}"
        elif not _same_images(one, other):
            raise InputError(f"{one.path} and {other.path} were tested on other images: their labels differ.")
        else:
            tests[one.seed] = mcnemar(one.right.tolist(), other.right.tolist())
    return Compared(arm, difference, tests, missing)


def _same_images(one: TestedRun, other: TestedRun) -> bool:
    return one.labels is not None and other.labels is not None and torch.equal(one.labels, other.labels)


def _arm(group: str, key: str | None) -> Arm:
    runs = tuple(_read(part.strip(), key) for part in group.split(",") if part.strip())
    if not runs:
        raise InputError(f'`runs` must name run directories, got "{group}".')
    seeds = [run.seed for run in runs]
    if len(set(seeds)) < len(seeds):
        raise InputError(
            f"One arm holds a seed twice: {seeds} in {group}. Runs of one arm differ in their seed."
        )
    first = runs[0].path.resolve().name
    # A table of averaged weights says so, however they were named.
    if _row_of(group.split(",")[0].strip())[1] or layout.averaged_in(runs[0].key) is not None:
        first += f":{runs[0].key}"
    return Arm(first if len(runs) == 1 else f"{first} and {len(runs) - 1} more", runs)


def _row_of(text: str) -> tuple[Path, str | None]:
    """The folder and the row of "RUN:KEY"; a folder of that very name is a run."""
    folder, colon, key = text.rpartition(":")
    if not colon or not folder or Path(text).exists():
        return Path(text), None
    return Path(folder), key


def _read(text: str, key: str | None) -> TestedRun:
    path, own = _row_of(text)
    seed = read_config(path)["config"].get("seed", 0)
    rows = {row["key"]: row for row in read_results(path / layout.RESULTS)["rows"]}
    if not rows:
        raise InputError(f"{path} has no tested network yet: finish it with `rolewise run --resume {path}`.")
    chosen = own or key or ("student" if "student" in rows else next(iter(rows)))
    row, accuracy = _tested(path, rows, chosen)
    file = path / layout.test_file(chosen)
    averaged_too = chosen in rows and row.get(_AVERAGED) is not None
    right = labels = None
    if file.exists():
        try:
            tensors = load_file(file)
            labels = tensors["labels"]
            right = tensors["logits"].argmax(1) == labels
        except (OSError, SafetensorError, KeyError, RuntimeError, IndexError) as error:
            raise InputError(
                f"{file} cannot be read ({first_line(error)}): restore it, or remove it to compare accuracies "
                "alone."
            ) from error
    return TestedRun(path, chosen, int(seed), accuracy, row["n"], right, labels, averaged_too)


def _tested(path: Path, rows: Mapping[str, dict[str, Any]], name: str) -> tuple[dict[str, Any], float]:
    """The row that a network's name means, and the network's accuracy: that of averaged weights is another."""
    if name in rows:
        return rows[name], rows[name]["accuracy"]
    averaged = {layout.averaged_key(key): row for key, row in rows.items() if row.get(_AVERAGED) is not None}
    if name in averaged:
        return averaged[name], averaged[name][_AVERAGED]
    text = f"{unknown('network of this run', name, [*rows, *averaged])} The run is {path}."
    if (key := layout.averaged_in(name)) is not None and key in rows:
        train = f"{rows[key]['role']}.train"
        text += (
            f" It tested no averaged weights of {key}: they need `{train}.ema_decay` or `{train}.ema_epochs`."
        )
    raise InputError(text)
