"""A run: its stages, each from the parts that the settings describe, on one run directory."""

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cached_property
from typing import Any

from safetensors import safe_open
from torch import nn

from rolewise._roles import A_T, ROLES, SCHEDULES, STUDENT, TEACHER
from rolewise.augment import Schedule
from rolewise.config import Config
from rolewise.data import Data
from rolewise.errors import InputError
from rolewise.objective import CrossEntropy, Distill, Objective
from rolewise.population import make_plan, run_search
from rolewise.pretrained import digest, save_network
from rolewise.progress import Progress
from rolewise.runs import RunDirectory, free_bytes, layout
from rolewise.stages import build
from rolewise.stages.estimate import bytes_needed
from rolewise.stages.network_info import network_info
from rolewise.stages.results import Results
from rolewise.stages.trainings import TRAININGS, Training
from rolewise.trainer import Result, Trainer, TrainSettings, final_test, fit, torch_threads
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

    def in_turn(self) -> AbstractContextManager[None]:
        """The process that writes does what the context holds before the others do."""
        return nullcontext() if self.group is None else self.group.in_turn()

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
        path = self.run.file(layout.network_file(TEACHER))
        if not path.exists():
            raise InputError(
                f"{self.run.path} has no teacher yet: train one with `rolewise train --role teacher --resume "
                f"{self.run.path}`, or name one with `--teacher FILE`."
            )
        return build.load_trained(self.config, path, TEACHER, len(self.data.classes), self._image).eval()

    def student(self) -> nn.Module:
        """The student before training: quantized, its weights the teacher's where names and shapes match."""
        teacher = self.teacher() if self.config.student.init == TEACHER else None
        model, report = build.new_student(self.config, len(self.data.classes), self._image, teacher)
        own = () if report is None else (*report.missing, *report.mismatched)
        if own:
            self.progress.note(f"student: {len(own)} tensors are not the teacher's: {_some(own)}")
        return model

    def objective(self, role: str, *, kd: bool = True) -> Objective:
        """What is minimised; a distillation loss comes prepared on the teacher."""
        if role == TEACHER or not kd or self.config.kd.loss == build.NO_LOSS:
            return CrossEntropy()
        objective = build.new_objective(self.config, self.teacher())
        if isinstance(objective, Distill):
            with self.in_turn():
                self._prepare(objective)
        return objective

    def _prepare(self, objective: Distill) -> None:
        """Trains the loss's own parts on the teacher, once for search, final run, baselines and resume."""
        if objective.loss.prepared:
            return
        path = self.run.file(layout.KD)
        # One key: safetensors writes several in an order that differs from process to process.
        about = json.dumps(
            {"teacher": digest(objective.teacher), "loss": self.config.kd.loss}, sort_keys=True
        )
        if path.exists():
            with safe_open(path, framework="pt") as file:
                if (file.metadata() or {}).get("about") == about:
                    objective.loss.restore({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
                    return
        settings = self.settings(STUDENT)
        with self.records.cost(layout.PREPARE), torch_threads(settings.threads):
            objective.prepare(self.data.train, seed=self.config.seed, device=settings.device)
        state = objective.loss.state_dict()
        self.run.write_tensors(layout.KD, state, {"about": about})

    # The two kinds of work.

    def search(self, role: str) -> Schedule:
        """Searches a role's schedule, or reads it where that is done; writes `A_T.json` or `A_S.json`."""
        name, file = layout.search_stage(role), layout.schedule_file(role)
        if self.run.done(name):
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
                init="random" if role == "teacher" else "given",
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
            cost["seconds"] = result.cost.wall_seconds  # over all sittings
            cost["cpu_seconds"] = result.cost.cpu_seconds
        if not result.overwritten:
            self.progress.note(
                f"{SCHEDULES[role]}: the best member, {result.best}, was never overwritten, so the schedule is the one "
                "that all members began with"
            )
        result.schedule.save(self.run.file(file))
        self.records.add_search(role, result.summary())
        self.run.mark_done(name)
        return result.schedule

    def _warm_start(self, role: str) -> Schedule | None:
        if self.config.search.warm_start == A_T and role == STUDENT:
            return Schedule.load(self.run.file(layout.schedule_file(TEACHER))).stretch(
                self.config.search.epochs
            )
        return build.warm_start(self.config)

    def train(self, key: str) -> None:
        """One final training of `TRAININGS`; writes the network, and its row of the result table."""
        training = TRAININGS[key]
        if self.run.done(training.stage):
            return
        settings = self.settings(training.role)
        schedule = self.schedule(training, settings.epochs)
        teaches = training.role == TEACHER
        model = (
            build.new_teacher(self.config, len(self.data.classes), self._image) if teaches else self.student()
        )
        objective = self.objective(training.role, kd=training.kd)
        with self.records.cost(training.stage) as cost, torch_threads(settings.threads):
            trainer = Trainer(
                model,
                objective,
                self.data.train,
                settings,
                seed=self.config.seed,
                role=training.role,
                should_stop=self.should_stop,
                progress=self.progress,
                group=self.group,
            )
            save_seconds = self.config.machine.checkpoint_seconds
            history = fit(trainer, schedule, run=self.run, stage=training.stage, save_seconds=save_seconds)
            last = None if schedule is None else schedule[settings.epochs - 1]
            result = final_test(trainer, self.data.test, history, policy=last)
            cost["images"] = settings.epochs * trainer.steps * settings.batch_size
        self._finish(training, model, result, settings, None if schedule is None else training.schedule)

    def take_teacher(self) -> None:
        """Puts the network that was trained elsewhere in the teacher's place, after testing it."""
        training, settings = TRAININGS[TEACHER], self.settings(TEACHER)
        if self.run.done(training.stage):
            return
        model, weights = build.given_teacher(self.config, len(self.data.classes), self._image)
        trainer = Trainer(model, CrossEntropy(), self.data.train, settings, seed=self.config.seed)
        with torch_threads(settings.threads):
            result = final_test(trainer, self.data.test, [])
        self._finish(training, model, result, settings, None, weights)

    def schedule(self, training: Training, epochs: int) -> Schedule | None:
        """A training's schedule, stretched to its length; settings may name a file, or `none`."""
        if training.schedule is None:
            return None
        role = next(role for role in ROLES if SCHEDULES[role] == training.schedule)
        if self.config.role(role).schedule is None:
            path = self.run.file(layout.schedule_file(role))
            if not path.exists():
                raise InputError(
                    f"{self.run.path} has no {path.name} yet: search it with `rolewise search --role {role} --resume "
                    f"{self.run.path}`, or name one with `--schedule FILE`, or train without: `--schedule none`."
                )
            found = Schedule.load(path, self.config.search.epochs)
        else:
            named = build.named_schedule(self.config, role)
            if named is None:
                return None
            found = named
        if len(found) != epochs:
            self.progress.note(
                f"{training.schedule}: {len(found)} epochs stretched to the training's {epochs}"
            )
        return found.stretch(epochs)

    def _finish(
        self,
        training: Training,
        model: nn.Module,
        result: Result,
        settings: TrainSettings,
        schedule: str | None,
        weights: Mapping[str, str] | None = None,
    ) -> None:
        if not self.leads:
            return
        self.run.write_tensors(
            layout.test_file(training.key), {"logits": result.logits, "labels": result.labels}
        )
        path = self.run.file(training.file)
        path.parent.mkdir(exist_ok=True)
        self.records.add_row(training, result, self.config, epochs=settings.epochs, schedule=schedule)
        row = next(row for row in self.records.read()["rows"] if row["key"] == training.key)
        extra: dict[str, Any] = {"data": self.config.data.name, "classes": list(self.data.classes)}
        if weights:
            extra["weights"] = dict(weights)
        info = network_info(self.config, self.data, row)
        save_network(model, path, extra=extra, info=info)
        if result.averaged is not None:
            averaged = layout.averaged_file(training.key, baseline=training.baseline)
            save_network(result.averaged, self.run.file(averaged), extra=extra, info=info)
        self.run.mark_done(training.stage)

    def results(self) -> dict[str, Any]:
        """What `results.json` holds so far."""
        return self.records.read()


def _some(names: Any, most: int = 4) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
