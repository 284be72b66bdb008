"""The ablation of the training recipe: each element added to the paper's recipe, and taken from the strong one.

    python benchmarks/recipe.py --data-root ~/data                     # all arms; can be stopped and resumed
    python benchmarks/recipe.py --data-root ~/data --plan              # what there is to train, and what is done
    python benchmarks/recipe.py --data-root ~/data --report            # the results of what is done
    python benchmarks/recipe.py --data-root ~/data --only cosine --seeds 3 --bits 2

CIFAR-10, `resnet8-small`, 10 epochs, at 32, 4 and 2 bits, three seeds. Of the 50,000 training images 45,000 are
trained on; what belongs into the strong recipe is chosen by the other 5,000, and all 10,000 test images say what the
choice is worth. Three further seeds of the strong and of the paper's recipe, which chose nothing, confirm it. Arms of a
seed share the order of the images, the augmentation's random numbers, the initial weights and, below 32 bits, the
teacher, so that differences are paired. Each training is kept in `--out` (ignored by git) and continued there after a
kill; the figures of what is done are written to `results/recipe/ablation.json` after each one.
"""

import argparse
import copy
import json
import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from common import origin, training_parser, write_results

import rolewise as rw
from rolewise import kd, networks
from rolewise.augment import find_schedule
from rolewise.experiments.statistics import Difference, paired_difference
from rolewise.pretrained import load_network, save_network
from rolewise.seeds import torch_generator
from rolewise.trainer import evaluate, student_settings

# The paper's for SGD, and twice the paper's for its low-bit students, whose 10 epochs are a twentieth of its 200.
SGD_LR, ADAM_LR = 0.1, 2e-3
CUTMIX = {"cutmix": 1.0, "mix_probability": 0.5}
# Name -> what it changes: settings of the training, and `schedule`, `task_weight`, `teacher_bits`, which are not.
ELEMENTS: dict[str, dict[str, Any]] = {
    "cosine": {"lr_schedule": "cosine"},
    "warmup": {"warmup_epochs": 1},
    "smoothing": {"label_smoothing": 0.1},
    "mixup": {"mixup": 0.2},
    "cutmix": CUTMIX,
    "ema": {"ema_decay": 0.998},
    "last": {"ema_epochs": 3},
    "clip": {"grad_clip": 1.0},
    "adamw": {"optimizer": "adamw", "weight_decay": 0.01},
    "trivialaugment": {"schedule": "trivialaugment"},
    "autoaugment": {"schedule": "autoaugment"},
    "ladder": {"ladder": True},
    "labelfree": {"task_weight": 0.0},
    "lowbit-teacher": {"teacher_bits": 4},
}
# The elements of the presets `strong-...`, chosen by held-out images alone, one after the other: what gave the paper's
# recipe at least half a point more at 4 bits with seed 0; what then gave at least a quarter of a point more at 4 and 2
# bits, the mean of three seeds; and what gave that on top of both, where RIVALS did not. A schedule is no candidate: it
# takes the place of the one that a search finds.
STRONG = ("cosine", "ema", "smoothing")
# Of these, what low-bit networks alone have: they are what it was chosen for. At 32 bits averaged weights gain nothing
# (the arm `strong+ema`), and smoothed labels are not tried, see BELOW.
LOW_BIT = ("ema", "smoothing")
RIVALS = ("cutmix", "clip", "ladder")  # tried at 4 bits in the place of the last one
EXCLUSIVE = {"ema": "last", "last": "ema"}  # two ways to average; a training has one
# Arms of the seeds that confirm the choice; averaging changes no training, so the last two cost none.
CONFIRMED = ("paper", "strong", "strong-ema", "strong+ema")
# Elements for fewer bits alone: the 32-bit network is the teacher, which learns from no other network, and which
# smoothed labels are published to make a worse one (Müller et al., NeurIPS 2019); the 4-bit one has no low-bit teacher.
BELOW = {"smoothing": 32, "ladder": 32, "labelfree": 32, "lowbit-teacher": 4}


@dataclass(frozen=True)
class Arm:
    """One recipe: its name, what it is compared with, its elements, and those that it has below 32 bits alone."""

    name: str
    against: str
    elements: tuple[str, ...]
    low_bit: tuple[str, ...] = ()
    bits: tuple[int, ...] = (32, 4, 2)

    def at(self, bits: int) -> tuple[str, ...]:
        """The elements that a network of so many bits has."""
        everything = (*self.elements, *(self.low_bit if bits < 32 else ()))
        return tuple(element for element in everything if bits < BELOW.get(element, 33))


@dataclass(frozen=True)
class Cell:
    """One training."""

    arm: Arm
    bits: int
    seed: int

    @property
    def elements(self) -> tuple[str, ...]:
        """The elements of its training."""
        return self.arm.at(self.bits)

    def changes(self) -> dict[str, Any]:
        """All that the elements change."""
        return {key: value for element in self.elements for key, value in ELEMENTS[element].items()}

    @property
    def key(self) -> str:
        """The training, which arms with the same elements share, such as "paper+cosine" and "strong-ema-smoothing"."""
        elements = [element for element in ELEMENTS if element in self.elements]
        return f"{'+'.join(elements) or 'paper'}-{self.bits}bit-seed{self.seed}"


def arms() -> list[Arm]:
    """The paper's recipe, the strong one, one element more or less, and the rivals of the last element."""

    def strong(name: str, against: str, *more: str, without: str | None = None, **bits: Any) -> Arm:
        kept = [element for element in STRONG if element != without]
        low_bit = tuple(element for element in kept if element in LOW_BIT and element not in more)
        return Arm(name, against, (*(e for e in kept if e not in LOW_BIT), *more), low_bit, **bits)

    found = [Arm("paper", "paper", ()), strong("strong", "paper")]
    found += [Arm(f"paper+{name}", "paper", (name,)) for name in ELEMENTS]
    found += [strong(f"strong-{name}", "strong", without=name) for name in STRONG]
    found += [
        strong(f"strong+{name}", "strong", name, without=EXCLUSIVE.get(name))
        for name in ELEMENTS
        if name not in STRONG
    ]
    found += [strong("strong+ema", "strong", "ema", bits=(32,))]
    last = STRONG[-1]
    found += [
        strong(f"strong-{last}+{name}", f"strong-{last}", name, without=last, bits=(4,)) for name in RIVALS
    ]
    return found


def cells(options: argparse.Namespace) -> list[Cell]:
    """All trainings, in an order in which what is done is a whole comparison as soon as possible.

    First what the strong recipe is chosen by: each element added to the paper's, for low-bit networks of one seed. Then
    the strong recipe against the paper's, each element taken from it or added to it, the rivals, and the seeds that
    confirm the choice. Then the rest.
    """
    chosen = [
        arm for arm in arms() if not options.only or arm.name in ("paper", "strong") or _named(arm, options)
    ]
    both = [arm for arm in chosen if arm.name in CONFIRMED]
    further = 0 if options.only else options.confirm
    found = [
        Cell(arm, bits, seed)
        for seed in range(options.seeds + further)
        for bits in options.bits
        for arm in (chosen if seed < options.seeds else both)
        if bits in arm.bits
        if arm.name == arm.against
        or {*arm.at(bits)} != {*base(arm).at(bits)}  # else nothing is added or taken
    ]
    return sorted(found, key=lambda cell: (_turn(cell), cell.seed, "ema" not in cell.elements))


def _turn(cell: Cell) -> int:
    """0 to 2, see `cells`; within a turn seed by seed, averaging first, whose last weights are another cell's."""
    if cell.bits < 32 and cell.seed == 0 and cell.arm.against == "paper" and cell.arm.name != "strong":
        return 0
    asked = cell.arm.name in CONFIRMED or (cell.bits < 32 and cell.arm.against != "paper")
    return 1 if asked else 2


def base(arm: Arm) -> Arm:
    """The arm that another is compared with."""
    return next(one for one in arms() if one.name == arm.against)


def _named(arm: Arm, options: argparse.Namespace) -> bool:
    return any(arm.name.endswith(("+" + name, "-" + name)) for name in options.only)


class Ablation:
    """Trains cells, each from its own checkpoint if there is one."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.out = options, Path(options.out)
        whole = rw.load_data("digits") if options.smoke else rw.load_data("cifar10", options.data_root)
        images, held_out = (1_000, 300) if options.smoke else (45_000, 5_000)
        self.data = whole.limited(images, held_out=held_out)
        self.architecture = "cnn-tiny" if options.smoke else "resnet8-small"

    def result(self, cell: Cell) -> dict[str, Any] | None:
        """What a cell gave, if it is done: averaging changes no training, so the last weights may be another cell's."""
        if (found := self._read(cell)) is None and not {"ema", "last"} & {*cell.elements}:
            for more in ("ema", "last"):
                arm = Arm(cell.arm.name, cell.arm.against, (*cell.elements, more))
                if (found := self._read(Cell(arm, cell.bits, cell.seed))) is not None:
                    return {**found, **asdict(cell), "averaged": None, "averaged_held_out": None}
        return found

    def _read(self, cell: Cell) -> dict[str, Any] | None:
        path = self.out / f"{cell.key}.json"
        return {"training": cell.key, **json.loads(path.read_text("utf-8"))} if path.exists() else None

    def train(self, cell: Cell) -> dict[str, Any]:
        """Trains a cell, or continues it."""
        if (found := self.result(cell)) is not None:
            return found
        changes, folder = cell.changes(), self.out / cell.key
        schedule, task_weight = changes.pop("schedule", None), changes.pop("task_weight", None)
        teacher_bits = changes.pop("teacher_bits", 32)
        epochs = self.options.epochs
        if changes.pop("ladder", False):
            changes["ladder"] = (8, 4, 2) if cell.bits == 2 else (8, cell.bits)
        model, objective = self.student(cell, teacher_bits, task_weight)
        sgd = cell.bits == 32 and "adamw" not in cell.elements
        base = {"batch_size": 128, "threads": 1, "lr": SGD_LR if sgd else ADAM_LR}
        begun = time.process_time()
        result = rw.train(
            model,
            self.data,
            objective=objective,
            augment=None if schedule is None else find_schedule(schedule, epochs),
            epochs=epochs,
            seed=cell.seed,
            out=folder,
            resume=(folder / "config.json").exists(),
            **{**base, **changes},
        )
        figures = {
            **asdict(cell),
            "accuracy": result.accuracy,
            "averaged": result.averaged_accuracy,
            "held_out": self.held_out(model),
            "averaged_held_out": None if result.averaged is None else self.held_out(result.averaged),
            "loss": result.loss,
            "n": result.n,
            "precision": result.precision,
            "cpu_seconds_of_the_last_session": round(time.process_time() - begun, 1),
            "training": cell.key,
        }
        save_network(model, folder / "network.safetensors")
        part = self.out / f"{cell.key}.part"
        part.write_text(json.dumps(figures) + "\n", "utf-8")
        part.replace(self.out / f"{cell.key}.json")
        return figures

    def held_out(self, model: Any) -> float:
        """Accuracy in float32 on the training images that nothing is trained on."""
        split = self.data.held_out
        placement = student_settings(1, precision="fp32", threads=1).placement()
        return evaluate(model, split, mean=split.mean, std=split.std, placement=placement).accuracy

    def student(self, cell: Cell, teacher_bits: int, task_weight: float | None) -> tuple[Any, Any]:
        """The network before its training, and what it minimizes: below 32 bits soft labels of the paper's teacher."""
        if cell.bits == 32:
            model = networks.build(self.architecture, num_classes=10)
            model.reset(torch_generator(cell.seed, "recipe"))
            return model, None
        paper = Arm("paper", "paper", ())
        float_teacher = self.network(Cell(paper, 32, cell.seed))
        teacher = float_teacher if teacher_bits == 32 else self.network(Cell(paper, teacher_bits, cell.seed))
        student = rw.quantize(copy.deepcopy(float_teacher), cell.bits, cell.bits)
        loss = kd.LOSSES["soft"]()
        return student, rw.Distill(teacher.eval(), loss, task_weight=task_weight)

    def network(self, cell: Cell) -> Any:
        """The trained network of a cell, which is trained now if it is not there yet."""
        return load_network(self.out / self.train(cell)["training"] / "network.safetensors")


def figures(ablation: Ablation, wanted: list[Cell]) -> list[dict[str, Any]]:
    """One row per arm and bits: accuracies of each seed, their means, and the paired differences to the base.

    Intervals are of 95 %.
    """
    done = {cell.key: found for cell in wanted if (found := ablation.result(cell)) is not None}
    # An arm that changes nothing at some bits is none there, though another's training bears its key.
    asked = {(cell.arm.name, cell.bits) for cell in wanted}
    rows = []
    for arm in arms():
        for bits in sorted({cell.bits for cell in wanted}, reverse=True):
            pairs = list(_pairs(arm, bits, wanted, done)) if (arm.name, bits) in asked else []
            if pairs:
                row: dict[str, Any] = {"arm": arm.name, "bits": bits, "n": len(pairs), "against": arm.against}
                row["seeds"] = [mine["seed"] for mine, _ in pairs]
                for images in ("held_out", "accuracy"):
                    mine, others = (
                        [_share(one, images) for one in side] for side in zip(*pairs, strict=True)
                    )
                    row[images] = round(100 * statistics.mean(mine), 2)
                    row[f"{images}_of_seeds"] = [round(100 * one, 2) for one in mine]
                    row[f"{images}_of_its_base"] = [round(100 * one, 2) for one in others]
                    row[f"{images}_difference"] = (
                        None if arm.name == arm.against else in_points(paired_difference(mine, others))
                    )
                rows.append(row)
    return rows


def _pairs(
    arm: Arm, bits: int, wanted: list[Cell], done: Mapping[str, dict[str, Any]]
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """(what the arm gave, what its base gave) for each seed that both have."""
    for seed in sorted({cell.seed for cell in wanted}):
        mine, other = (done.get(Cell(one, bits, seed).key) for one in (arm, base(arm)))
        if mine is not None and other is not None:
            yield mine, other


def _share(found: Mapping[str, Any], images: str) -> float:
    """Accuracy on the test images ("accuracy") or the held-out ones; where weights are averaged, theirs counts."""
    averaged = found["averaged" if images == "accuracy" else f"averaged_{images}"]
    return float(found[images] if averaged is None else averaged)


def in_points(found: Difference) -> dict[str, float | None]:
    """Mean and interval in percentage points, to two decimals; the interval is None with a single seed."""
    ends = {"mean": found.mean, "low": found.low, "high": found.high}
    return {name: None if value is None else round(100 * value, 2) for name, value in ends.items()}


def results(ablation: Ablation, wanted: list[Cell]) -> dict[str, list[dict[str, Any]]]:
    """The rows of the seeds that chose the strong recipe, and those of the seeds that confirm it."""
    seeds = ablation.options.seeds
    return {
        "rows": figures(ablation, [cell for cell in wanted if cell.seed < seeds]),
        "confirmation": figures(ablation, [cell for cell in wanted if cell.seed >= seeds]),
    }


def write(found: Mapping[str, list[dict[str, Any]]], options: argparse.Namespace) -> None:
    """`results/recipe/ablation.json`, with where it was measured."""
    content = {
        **origin("recipe", command="python benchmarks/recipe.py --data-root DIR"),
        "data": "digits" if options.smoke else "cifar10",
        "epochs": options.epochs,
        "lr": {"sgd, 32 bits": SGD_LR, "adam and adamw": ADAM_LR},
        "elements": ELEMENTS,
        "strong": STRONG,
        **found,
    }
    write_results(options.results, content)


def table(found: Mapping[str, list[dict[str, Any]]]) -> str:
    """All rows as a Markdown table; `recipe_page.py` draws those of `docs/training.md`."""
    lines = [
        "| arm | bits | seeds | accuracy, % | against | held-out images, points (95 %) | test images, points (95 %) |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in (*found["rows"], *found["confirmation"]):
        words = (points(row["held_out_difference"]), points(row["accuracy_difference"]))
        lines.append(
            f"| {row['arm']} | {row['bits']} | {seed_names(row)} | {row['accuracy']:.2f} | {row['against']} | "
            f"{words[0]} | {words[1]} |"
        )
    return "\n".join(lines)


def seed_names(row: Mapping[str, Any]) -> str:
    """Such as "0, 1, 2"."""
    return ", ".join(map(str, row["seeds"]))


def points(found: Mapping[str, float | None] | None) -> str:
    """A difference with its interval, where there is one."""
    if found is None:
        return ""
    interval = "" if found["low"] is None else f" ({found['low']:+.2f} to {found['high']:+.2f})"
    return f"{found['mean']:+.2f}{interval}"


def main(arguments: list[str] | None = None) -> None:
    parser = training_parser(__doc__, "recipe", "ablation.json", seeds=3, epochs=10)
    parser.add_argument(
        "--confirm", type=int, default=3, help="further seeds of the paper's and the strong recipe alone"
    )
    parser.add_argument("--only", nargs="+", choices=[*ELEMENTS], default=[])
    parser.add_argument("--plan", action="store_true", help="print what there is to train, and train nothing")
    parser.add_argument(
        "--report", action="store_true", help="write the results of what is done, and train nothing"
    )
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    ablation, wanted = Ablation(options), cells(options)
    Path(options.out).mkdir(parents=True, exist_ok=True)
    if options.plan:
        done = [cell.key for cell in wanted if ablation.result(cell) is not None]
        print(f"{len(wanted)} trainings, {len(done)} of them done: {', '.join(done) or 'none'}")
        return
    if options.report:
        write(results(ablation, wanted), options)
    else:
        for cell in wanted:
            found = ablation.train(cell)
            print(f"{cell.key}: {100 * found['accuracy']:.2f} %", flush=True)
            write(results(ablation, wanted), options)
    print(table(results(ablation, wanted)))


if __name__ == "__main__":
    main()
