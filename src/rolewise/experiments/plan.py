"""The pieces of work behind cells: searches and trainings, each an ordinary run, shared wherever they are equal."""

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rolewise.config import Config
from rolewise.errors import InputError, unknown
from rolewise.experiments import study
from rolewise.experiments.arms import ARMS, Arm, find_arm
from rolewise.experiments.recipes import Options, Tree, settings, with_settings
from rolewise.experiments.setups import Cell, Setup
from rolewise.experiments.tables import FIGURE3, TABLES
from rolewise.runs import layout

TARGETS = (*TABLES, "figure3", "study", "all")
Kind = Literal["search", "train"]
_OTHER = {"cifar10": "cifar100", "cifar100": "cifar10"}


@dataclass(frozen=True)
class Work:
    """One search or one training of one seed: a run directory of its own.

    Args:
        name: name of the run directory below `runs/`.
        kind: "search" finds a schedule, "train" trains a network and tests it.
        role: "teacher" or "student".
        setup: the training.
        seed: base seed.
        method: method of a search.
        teacher: name of the work that trains the teacher; None without one.
        searched: name of the search whose schedule is used; None without one.
    """

    name: str
    kind: Kind
    role: Literal["teacher", "student"]
    setup: Setup
    seed: int
    method: str = "pbt"
    teacher: str | None = None
    searched: str | None = None

    @property
    def arm(self) -> Arm:
        """Where a training's schedule comes from."""
        return ARMS[self.setup.schedule]

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the work that must be complete before."""
        return tuple(name for name in (self.teacher, self.searched) if name is not None)

    @property
    def stage(self) -> str:
        """The stage of the run that marks it as complete."""
        return layout.search_stage(self.role) if self.kind == "search" else layout.train_stage(self.role)

    def config(self, options: Options) -> Config:
        """Its settings, without the files of teacher and schedule."""
        config = settings(self.setup, self.seed, options, own(self.setup))
        values: dict[str, Any] = {"search.method": self.method}
        if self.kind == "train":
            values |= {f"{self.role}.train.{name}": value for name, value in self.arm.train.items()}
        return with_settings(config, values)


def own(setup: Setup) -> Tree | None:
    """The numbers of an experiment that has its own, such as the study."""
    return study.SETTINGS if setup.shared == "study" else None


def select(targets: Sequence[str], only: Sequence[str] = ()) -> tuple[Cell, ...]:
    """The cells of tables, narrowed down.

    Args:
        targets: names of `TARGETS`.
        only: patterns such as "cifar100/resnet18/w4a4" or "table3/*/mhgd"; a cell stays if its id holds one of them.

    Raises:
        InputError: an unknown target, or a pattern that fits no cell (the nearest is named).
    """
    found: list[Cell] = []
    for target in targets:
        if target not in TARGETS:
            raise InputError(unknown("table", target, TARGETS))
        for name, cells in all_cells().items():
            if target in (name, "all"):
                found += cells
    ids = [cell.id for cell in found]
    for pattern in only:
        if not any(_fits(one, pattern) for one in ids):
            raise InputError(unknown("cell", pattern, ids))
    kept = [cell for cell in found if not only or any(_fits(cell.id, pattern) for pattern in only)]
    return tuple(dict.fromkeys(kept))


def all_cells() -> Mapping[str, tuple[Cell, ...]]:
    """All cells by table; figure 3 is the cells whose schedules it shows."""
    figure = tuple(
        next(cell for cells in TABLES.values() for cell in cells if cell.setup == setup) for setup in FIGURE3
    )
    return {**TABLES, "figure3": figure, "study": study.cells()}


def _fits(identifier: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(f"/{identifier}/", f"*/{pattern.strip('/')}/*")


def with_arms(cells: Iterable[Cell], words: Sequence[str]) -> tuple[Cell, ...]:
    """The cells, and each student's or teacher's training under every further arm.

    Raises:
        InputError: an unknown arm, or one that cannot be run.
    """
    arms = [find_arm(word) for word in words]
    found = []
    for cell in cells:
        found.append(cell)
        for arm in arms:
            setup = cell.setup.under(arm.word)
            if setup.role == "teacher" and arm.base == "a_s":
                continue  # a teacher has no A_S
            if setup != cell.setup:
                found.append(Cell(cell.table, f"{cell.row}: {arm.title}", cell.column, setup))
    return tuple(dict.fromkeys(found))


def plan(cells: Iterable[Cell], seeds: Iterable[int]) -> tuple[Work, ...]:
    """All work behind the cells, each once, all of one seed before the next, what is needed before what needs it."""
    found: dict[str, Work] = {}
    cells = tuple(cells)
    for seed in seeds:
        for cell in cells:
            _add(found, cell.setup, seed)
    return tuple(found.values())


def training(setup: Setup, seed: int) -> Work:
    """The training of a setup, with the names of what it needs."""
    arm = find_arm(setup.schedule)
    searched = None if arm.base is None else search(_searched_setup(setup, arm), arm, seed).name
    return Work(
        _name(setup.name, seed),
        "train",
        setup.role,
        setup,
        seed,
        teacher=_name(setup.teacher.name, seed) if setup.needs_teacher else None,
        searched=searched,
    )


def search(setup: Setup, arm: Arm, seed: int) -> Work:
    """The search that an arm needs: of A_T for a teacher's setup, of A_S for a student's."""
    method = "" if arm.method == "pbt" else f"-{arm.method}"
    return Work(
        _name(f"search-{setup.subject}{method}", seed),
        "search",
        setup.role,
        setup,
        seed,
        method=arm.method,
        teacher=_name(setup.teacher.name, seed) if setup.needs_teacher else None,
    )


def _searched_setup(setup: Setup, arm: Arm) -> Setup:
    data = _OTHER[setup.data] if arm.other_data else setup.data
    if arm.base == "a_t":
        # The paper searches the teacher's schedule on CIFAR-10 alone; "other" asks for the other data set's.
        here = "cifar10" if setup.data.startswith("cifar") and not arm.other_data else data
        network = setup.searched_network or setup.network
        return Setup(here, network, role="teacher", schedule="a_t", shared=setup.shared)
    return Setup(
        data, setup.network, setup.student, setup.role, setup.bits, setup.loss, "a_s", setup.start,
        setup.teacher_schedule, shared=setup.shared,
    )  # fmt: skip


def _add(found: dict[str, Work], setup: Setup, seed: int) -> None:
    work = training(setup, seed)
    if work.name in found:
        return
    arm = work.arm
    if setup.needs_teacher:
        _add(found, setup.teacher, seed)
    if arm.base is not None:
        searched = search(_searched_setup(setup, arm), arm, seed)
        if searched.teacher is not None:
            _add(found, searched.setup.teacher, seed)
        found.setdefault(searched.name, searched)
    found[work.name] = work


def _name(text: str, seed: int) -> str:
    return f"seed{seed}/{text}"
