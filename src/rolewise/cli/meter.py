"""How far a run is: images of a stage, its rate, and the time that is left of the stage and of the whole run."""

import time
from collections.abc import Callable, Sequence

from rolewise.cli.words import duration
from rolewise.progress import Progress, Step
from rolewise.runs.titles import stage_title

_WINDOW = 10.0  # seconds over which a rate is taken at least, once there are so many


class Meter(Progress):
    """Counts what a stage has done, and estimates what is left.

    A rate is taken from the first batch on, so that the start of workers is no part of it, and between ends of epochs,
    so that evaluations are.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.stage: str | None = None
        self.steps: list[Step] = []
        self.epochs = self.images = self.members = self.done = self.now = 0
        self.count = self.total = 0  # images of this stage, of all members, since it was started or resumed
        self.began = 0.0
        self.values: dict[str, float] = {}
        self.ranking: list[float | None] = []
        self.moves: list[tuple[int, int]] = []
        self._marks: list[tuple[float, int]] = []  # time and images at the first batch, and at ends of epochs
        self._pace: dict[str, float] = {}  # seconds an image, of the newest stage of each kind

    def plan(self, steps: Sequence[Step]) -> None:
        """See `Progress.plan`."""
        self.steps = list(steps)

    def start(self, stage: str, *, epochs: int, images: int, members: int = 0, done: int = 0) -> None:
        """See `Progress.start`."""
        if self.stage is not None:
            self.finish()
        self.stage, self.epochs, self.images, self.members = stage, epochs, images, members
        self.done = self.now = done
        self.count, self.total = 0, (epochs - done) * images * max(1, members)
        self.began = self.clock()
        self.values, self.ranking, self.moves, self._marks = {}, [], [], []

    def batch(self, images: int) -> None:
        """See `Progress.batch`."""
        self.count += images
        if not self._marks:
            self._marks.append((self.clock(), self.count))

    def epoch(self, epoch: int, values: dict[str, float]) -> None:
        """See `Progress.epoch`."""
        self.now, self.values = epoch, dict(values)
        self._mark()

    def scores(
        self, epoch: int, scores: Sequence[float | None], moves: Sequence[tuple[int, int]] = ()
    ) -> None:
        """See `Progress.scores`."""
        self.now, self.ranking, self.moves = epoch, list(scores), list(moves)
        self._mark()

    def finish(self, summary: str = "") -> None:
        """See `Progress.finish`."""
        if self.stage is not None and self.average:
            self._pace[_kind(self.stage)] = 1 / self.average
        self.stage = None

    def _mark(self) -> None:
        now = self.clock()
        if self._marks and now > self._marks[-1][0]:
            self._marks.append((now, self.count))
            while len(self._marks) > 2 and now - self._marks[1][0] >= _WINDOW:
                del self._marks[0]

    @property
    def seconds(self) -> float:
        """Since the stage was started or resumed."""
        return self.clock() - self.began

    @property
    def rate(self) -> float:
        """Images per second of all members together, since an end of an epoch some time ago; 0 if not known yet."""
        if not self._marks:
            return 0.0
        now = self.clock()
        # Of the marks that are old enough, none after which nothing has happened yet.
        old = [mark for mark in self._marks if now - mark[0] >= _WINDOW and mark[1] < self.count]
        at, count = old[-1] if old else self._marks[0]
        return (self.count - count) / (now - at) if now > at else 0.0

    @property
    def average(self) -> float:
        """Images per second over the whole stage, its start included; 0 if not known yet."""
        return self.count / self.seconds if self.count and self.seconds > 0 else 0.0

    @property
    def left(self) -> float | None:
        """Seconds until the stage is over at the present rate; None if not known yet."""
        return max(0, self.total - self.count) / self.rate if self.rate else None

    @property
    def left_of_all(self) -> float | None:
        """Seconds until the run is over: each stage to come at the pace of the last one of its kind.

        While there was none, a student's training counts as a teacher's, and anything else as the present stage.

        None without a plan, in its last stage, and while nothing is known.
        """
        number = self.number
        if number is None or number == len(self.steps) or self.left is None:
            return None
        here = 1 / self.rate
        paces = {**self._pace, _kind(str(self.stage)): here}
        paces.setdefault("student", paces.get("teacher", here))
        ahead = [step for step in self.steps[number:] if not step.done]
        return self.left + sum(step.images * paces.get(_kind(step.stage), here) for step in ahead)

    @property
    def number(self) -> int | None:
        """The place of the stage in the plan, from 1."""
        names = [step.stage for step in self.steps]
        return names.index(self.stage) + 1 if self.stage in names else None

    def place(self) -> str:
        """Which stage of how many."""
        return "" if self.number is None else f"stage {self.number} of {len(self.steps)}"

    def title(self) -> str:
        """The name of the stage for people."""
        return stage_title(str(self.stage))

    def speed(self) -> list[str]:
        """The rate and what is left, in words; what the run waits for before its first batch."""
        if not self.count:
            what = "starting workers" if self.members else "starting"
            return [f"{what}, {duration(self.seconds)}" if self.seconds >= 1 else what]
        if not self.rate or self.left is None:
            return []
        words = [f"{self.rate:,.0f} images/s", f"{duration(self.left)} left"]
        return words if self.left_of_all is None else [*words, f"{duration(self.left_of_all)} in all"]

    def ending(self, summary: str) -> list[str]:
        """What is said when a stage is over, or is left before its end."""
        state = "done" if self.now >= self.epochs else f"stopped after epoch {self.now} of {self.epochs}"
        words = [f"{self.title()}: {state}", duration(self.seconds)]
        if self.average:
            words.append(f"{self.average:,.0f} images/s")
        accuracy = self.values.get("accuracy")
        if accuracy is not None and not self.members:
            words.append(f"training accuracy {100 * accuracy:.1f} %")
        return [*words, summary] if summary else words


def _kind(stage: str) -> str:
    """Stages that take about the same time an image: searches, teachers' trainings, students' trainings, the rest."""
    if stage.startswith("search"):
        return "search"
    return "teacher" if "teacher" in stage else "student" if "student" in stage else stage
