"""A run: its stages, each from the parts that the settings describe, on one run directory."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cached_property
from typing import Any

from torch import nn

from rolewise._roles import A_T, SCHEDULES, STUDENT, TEACHER
from rolewise.augment import Schedule
from rolewise.config import Config
from rolewise.data import Data
from rolewise.errors import InputError
from rolewise.objective import CrossEntropy, Distill, Objective
from rolewise.population import make_plan, run_search
from rolewise.progress import Progress
from rolewise.runs import RunDirectory, free_bytes, layout
from rolewise.stages import build
from rolewise.stages.estimate import bytes_needed
from rolewise.stages.preparing import prepare
from rolewise.stages.results import Results
from rolewise.stages.schedules import searched_schedule
from rolewise.trainer import TrainSettings
from rolewise.trainer.parallel import Group


class Pipeline:
    """A run: its settings, its directory, and its parts made from them.

    Args:
        config: the resolved settings.
        run: the open run directory.
        data: the data set, if it is there already; None reads it when it is needed.
        progress: receives what happens.
        should_stop: polled before each batch.
        group: the processes that train together; the first one of them writes.
    """

    def __init__(
        self,
        config: Config,
        run: RunDirectory,
        *,
        data: Data | None = None,
        progress: Progress | None = None,
        should_stop: Callable[[], bool] | None = None,
        group: Group | None = None,
    ) -> None:
        self.config, self.run, self.group = config, run, group
        self.progress = progress or Progress()
        self.should_stop = should_stop or (lambda: False)
        self.records = Results(run)
        if data is not None:
            self.data = data

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes."""
        return self.group is None or self.group.rank == 0

    def rank_zero_first(self) -> AbstractContextManager[None]:
        """The process that writes does what the context holds before the others do."""
        return nullcontext() if self.group is None else self.group.rank_zero_first()

    def note_room(self) -> None:
        """Says so if the disk may be too small for the run; a full one would stop it after hours."""
        free, needed = (
            free_bytes(self.run.path),
            bytes_needed(self.config, len(self.data.classes), self._image),
        )
        if free is not None and free < needed:
            self.progress.note(
                f"{self.run.path}: {free / 1e6:,.0f} MB are free there, and the run's checkpoints may take "
                f"{needed / 1e6:,.0f} MB. A full disk stops it, to be resumed once there is room."
            )

    def note_own_networks(self) -> None:
        """Says which taps and act points were proposed for networks that name none."""
        for note in build.own_notes(self.config, len(self.data.classes), self._image):
            self.progress.note(note)

    @cached_property
    def data(self) -> Data:
        """The data set that teacher and student are for."""
        return build.load(self.config)

    @property
    def _image(self) -> build.Image:
        return build.image_form(self.data)

    def settings(self, role: str, *, searching: bool = False) -> TrainSettings:
        """The numbers of a final training, or of a search's members."""
        found = build.train_settings(self.config, role, searching=searching)
        if self.group is None:
            return found
        return replace(found, threads=max(1, found.threads // self.group.local_size))

    # Networks and objectives.

    def teacher(self) -> nn.Module:
        """The trained teacher, as its file has it."""
        name = layout.network_file(TEACHER)
        path = self.run.file(name)
        if not path.exists():
            raise InputError(
                f"{self.run.path} has no teacher yet: train one with `rolewise train --role teacher --resume "
                f"{self.run.path}`, or name one with `--teacher FILE`."
            )
        self.run.verify(name)
        return build.load_trained(self.config, path, TEACHER, len(self.data.classes), self._image).eval()

    def student(self, init: str | None = None) -> nn.Module:
        """The student before training, quantized.

        Args:
            init: "teacher": the teacher's weights where names and shapes match; "random"; None as the settings say.
        """
        teacher = self.teacher() if (init or self.config.student.init) == TEACHER else None
        model, report = build.new_student(self.config, len(self.data.classes), self._image, teacher)
        own = () if report is None else (*report.missing, *report.mismatched)
        if own:
            self.progress.note(f"student: {len(own)} tensors are not the teacher's: {build.some(own)}")
        return model

    def objective(self, role: str, *, kd: bool = True) -> Objective:
        """What is minimized; a distillation loss comes prepared on the teacher."""
        if role == TEACHER or not kd or self.config.kd.loss == build.NO_LOSS:
            return CrossEntropy()
        objective = build.new_objective(self.config, self.teacher())
        if isinstance(objective, Distill):
            with self.rank_zero_first():
                prepare(self, objective)
        return objective

    # The two kinds of work.

    def search(self, role: str) -> Schedule:
        """Searches a role's schedule, or reads it where that is done; writes `A_T.json` or `A_S.json`."""
        name, file = layout.search_stage(role), layout.schedule_file(role)
        if self.run.done(name):
            self.run.verify(file)
            return Schedule.load(self.run.file(file))
        data = build.load_searched(self.config, role, self.data)
        teaches = role == TEACHER
        model = (
            build.new_teacher(self.config, len(data.classes), build.image_form(data))
            if teaches
            else self.student()
        )
        objective = self.objective(role)
        with self.records.cost(name) as cost:
            plan = make_plan(
                model,
                data,
                self.config.search,
                objective=objective,
                init="random" if teaches else "given",
                seed=self.config.seed,
                role=role,
                training=self.settings(role, searching=True),
                images=(self.config.data.search_train, self.config.data.search_validation),
                warm_start=self._warm_start(role),
            )
            result = run_search(
                plan,
                workers=self.config.machine.workers,
                run=self.run,
                checkpoint_seconds=self.config.machine.checkpoint_seconds,
                progress=self.progress,
                should_stop=self.should_stop,
            )
            cost["images"] = result.images
            cost["seconds"] = result.cost.wall_seconds  # over all sessions
            cost["cpu_seconds"] = result.cost.cpu_seconds
        if not result.overwritten:
            self.progress.note(
                f"{SCHEDULES[role]}: the best member, {result.best}, was never overwritten, so the schedule is the one "
                "that it began with"
            )
        result.schedule.save(self.run.file(file))
        self.records.add_search(role, result.summary())
        self.run.mark_done(name, files=[file])
        return result.schedule

    def _warm_start(self, role: str) -> Schedule | None:
        if self.config.search.warm_start == A_T and role == STUDENT:
            epochs = self.config.search.epochs
            return searched_schedule(self.run, TEACHER, epochs).stretched(epochs).schedule
        return build.warm_start(self.config)

    def results(self) -> dict[str, Any]:
        """What `results.json` holds so far."""
        return self.records.read()
