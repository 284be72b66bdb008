"""The study: every arm under one budget on reduced CIFAR-10, several seeds, each with its own searches."""

from typing import Literal

from rolewise.bits import FULL
from rolewise.experiments.recipes import Tree
from rolewise.experiments.setups import Cell, Setup, Start

DATA, NETWORK = "cifar10", "cnn-small"
# Chosen by the rule in results/study/rule.md, on held-out training images alone.
EPOCHS, IMAGES, HELD_OUT, BATCH = 100, 1000, 1000, 64
LOSSES = ("soft", "ii-kd")
BITS = (4, 2)
# Word of the schedule -> title of the row.
ARMS = {
    "none": "KD, no schedule",
    "a_t": "KD + A_T",
    "a_s": "KD + A_S",
    "random": "KD + random",
    "shuffled": "KD + A_S shuffled",
    "trivialaugment-wide": "KD + TrivialAugment",
    "randaugment": "KD + RandAugment",
}

SETTINGS: Tree = {
    "data": {
        "train_images": IMAGES,
        "search_train": IMAGES,
        "search_validation": HELD_OUT,
    },
    "teacher": {"train": {"epochs": EPOCHS, "batch_size": BATCH}},
    "student": {"train": {"epochs": EPOCHS, "batch_size": BATCH}},
    # The paper's population is 16; 8 halve the cost of a search.
    "search": {"population": 8, "epochs": EPOCHS, "interval": 3},
    "machine": {"device": "cpu", "precision": "bf16"},
}


def _setup(bits: int = FULL, loss: str = "none", schedule: str = "none", start: Start = "random") -> Setup:
    role: Literal["teacher", "student"] = "teacher" if bits == FULL else "student"
    return Setup(
        DATA, NETWORK, role=role, bits=bits, loss=loss, schedule=schedule, start=start, shared="study"
    )


def cells(losses: tuple[str, ...] = LOSSES) -> tuple[Cell, ...]:
    """The study's table: a column for each bit width and loss."""
    found = [
        Cell("study", "Teacher, no schedule", "32 bit", _setup()),
        Cell("study", "Teacher + A_T", "32 bit", _setup(schedule="a_t")),
    ]
    for bits in BITS:
        for loss in losses:
            column = f"{bits} bit, {'soft labels' if loss == 'soft' else 'II-KD'}"
            if loss == losses[0]:
                found += [
                    Cell("study", "No KD, no schedule, from scratch", column, _setup(bits)),
                    Cell(
                        "study",
                        "No KD, no schedule, teacher's weights",
                        column,
                        _setup(bits, start="teacher"),
                    ),
                ]
            found += [
                Cell("study", title, column, _setup(bits, loss, word, "teacher"))
                for word, title in ARMS.items()
            ]
    return tuple(found)
