"""Searches without exploits, to compare a search with: as many members, epochs and images, the same door.

Each member has a schedule of its own from beginning to end, and the best one at the end is the result.
"""

from collections.abc import Sequence

import numpy as np

from rolewise.augment import Policy, RandAugment, Schedule
from rolewise.errors import InputError, InputTypeError, unknown
from rolewise.population.options import SearchOptions
from rolewise.population.pbt import MAGNITUDE_MAX, PROBABILITY_MAX, VECTOR_LENGTH
from rolewise.seeds import derive_seed, numpy_generator

METHODS = ("pbt", "random", "constant", "randaugment")
_RANDAUGMENT_LEVELS = 30
_RANDAUGMENT_OPS = 3  # the RandAugment paper searches 1 to 3 ops an image


def beginnings(options: SearchOptions, *, seed: int, role: str) -> list[Schedule]:
    """The schedule that each member follows until it is overwritten (in a control: to the end).

    - "pbt": no augmentation, or the warm start; the same for all.
    - "random": every `interval` epochs a vector, each entry uniform over its range (`Schedule.random`).
    - "constant": one such vector for all epochs.
    - "randaugment": a grid of (ops per image, magnitude), see `randaugment_grid`.
    - schedules: these.

    Raises:
        InputError: an unknown method, or schedules whose number or length does not fit.
    """
    epochs, members = options.epochs, range(options.population)
    if not isinstance(options.method, str):
        return _given(options.method, options)
    match options.method:
        case "pbt":
            return [options.warm_start or Schedule.none(epochs)] * options.population
        case "random":
            seeds = [derive_seed(seed, "control", role, member) for member in members]
            return [Schedule.random(epochs, one, options.interval) for one in seeds]
        case "constant":
            high = np.resize([PROBABILITY_MAX, MAGNITUDE_MAX], VECTOR_LENGTH)
            draws = [
                numpy_generator(seed, "control", role, member).integers(0, high + 1) for member in members
            ]
            return [Schedule.constant(Policy.from_vector(draw), epochs) for draw in draws]
        case "randaugment":
            grid = randaugment_grid(options.population)
            return [Schedule.constant(RandAugment(ops, level), epochs) for ops, level in grid]
    raise InputError(unknown("method of a search", options.method, METHODS))


def randaugment_grid(population: int) -> list[tuple[int, int]]:
    """`population` points (ops per image, magnitude 1..30): rows of 1 to 3 ops, each evenly spaced up to
    30."""
    rows = min(_RANDAUGMENT_OPS, max(1, population // 4))
    sizes = [population // rows + (row < population % rows) for row in range(rows)]
    return [
        (row + 1, round(_RANDAUGMENT_LEVELS * (column + 1) / size))
        for row, size in enumerate(sizes)
        for column in range(size)
    ]


def _given(schedules: Sequence[Schedule], options: SearchOptions) -> list[Schedule]:
    for number, schedule in enumerate(schedules):
        if not isinstance(schedule, Schedule):
            raise InputTypeError(f"`method[{number}]` must be a Schedule, got {type(schedule).__name__}.")
        if len(schedule) != options.epochs:
            raise InputError(
                f"`method[{number}]` holds {len(schedule)} epochs, but the search has {options.epochs}: "
                f".stretch({options.epochs}) makes it fit."
            )
    if len(schedules) != options.population:
        raise InputError(
            f"`method` holds {len(schedules)} schedules, but `population` is {options.population}: "
            "each member needs one."
        )
    return list(schedules)
