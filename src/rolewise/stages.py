"""The paper's two stages and the baselines, on a run directory: what is complete is not done again."""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save as safetensors_save
from torch import nn

from rolewise import networks
from rolewise.augment import Schedule
from rolewise.config import Config, TrainConfig, cores
from rolewise.data import Data, load_data
from rolewise.errors import InputError
from rolewise.kd import KDLoss, load_loss
from rolewise.objective import CrossEntropy, Distill, Objective
from rolewise.population import search
from rolewise.pretrained import digest, load_network, save_network
from rolewise.progress import Progress
from rolewise.quant import quantize
from rolewise.runs import RunDirectory, write_atomic
from rolewise.seeds import torch_generator
from rolewise.trainer import Result, Trainer, TrainSettings, fit, test, torch_threads
from rolewise.trainer.parallel import Group

SCHEDULES = {"teacher": "A_T", "student": "A_S"}


@dataclass(frozen=True)
class Training:
    """One final training of a run: who learns, under which schedule, with or without the teacher."""

    key: str
    title: str
    role: str
    schedule: str | None  # "A_T", "A_S", or None: crop and flip alone
    kd: bool
    baseline: bool = False

    @property
    def file(self) -> str:
        """Where its network is kept in the run directory."""
        return f"baselines/{self.key}.safetensors" if self.baseline else f"{self.key}.safetensors"


TRAININGS = {
    training.key: training
    for training in (
        Training("teacher", "Teacher after stage alpha", "teacher", "A_T", kd=False),
        Training("student", "Student after stage beta", "student", "A_S", kd=True),
        Training(
            "student-plain", "Student without KD, without schedule", "student", None, kd=False, baseline=True
        ),
        Training("student-kd", "Student with KD only", "student", None, kd=True, baseline=True),
        Training(
            "student-a-t", "Student with KD, teacher's schedule", "student", "A_T", kd=True, baseline=True
        ),
    )
}


def train_settings(config: Config, role: str, *, searching: bool) -> TrainSettings:
    """The numbers of a role's final training, or of the members of its search."""
    section: TrainConfig = config.role(role).train
    machine, numbers = config.machine, section.model_dump()
    if searching:
        numbers["epochs"] = config.search.epochs
        numbers["batch_size"] = config.search.batch_size or section.batch_size
    return TrainSettings(
        **numbers,
        device=machine.device,
        precision=machine.precision,
        channels_last=machine.channels_last,
        compile=machine.compile,
        threads=1 if searching else machine.threads or cores(),
    ).resolved()


class Pipeline:
    """A run: its settings, its directory, and its parts made from them.

    Args:
        config: the resolved settings.
        run: the open run directory.
        progress: is told what happens.
        should_stop: asked before each batch.
        group: the processes that train together; the first one of them writes.
    """

    def __init__(
        self,
        config: Config,
        run: RunDirectory,
        *,
        progress: Progress | None = None,
        should_stop: Callable[[], bool] | None = None,
        group: Group | None = None,
    ) -> None:
        self.config, self.run, self.group = config, run, group
        self.progress = progress or Progress()
        self.should_stop = should_stop or (lambda: False)

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes."""
        return self.group is None or self.group.rank == 0

    def in_turn(self) -> AbstractContextManager[None]:
        """The process that writes does what the context holds before the others do."""
        return nullcontext() if self.group is None else self.group.in_turn()

    @cached_property
    def data(self) -> Data:
        """The data set that teacher and student are for."""
        one = self.config.data
        return load_data(one.name, one.root, size=one.size, skip_bad=one.skip_bad)

    def search_data(self, role: str) -> Data:
        """The data set of a search: the paper transfers the teacher's schedule from CIFAR-10."""
        other = self.config.teacher.search_data if role == "teacher" else None
        return (
            self.data
            if other in (None, self.config.data.name)
            else load_data(str(other), self.config.data.root)
        )

    def settings(self, role: str, *, searching: bool = False) -> TrainSettings:
        """The numbers of a final training, or of a search's members."""
        found = train_settings(self.config, role, searching=searching)
        if self.group is None:
            return found
        return replace(found, threads=max(1, found.threads // self.group.local_size))

    # Networks and objectives.

    def new_teacher(self, classes: int) -> nn.Module:
        """The teacher's network before training."""
        section = self.config.teacher
        model = networks.build(section.network, num_classes=classes, **section.arguments)
        model.reset(torch_generator(self.config.seed, "init", "teacher"))
        return model

    def teacher(self) -> nn.Module:
        """The trained teacher, as its file has it."""
        path = self.run.file("teacher.safetensors")
        if not path.exists():
            raise InputError(
                f"{self.run.path} has no teacher yet: train one with `rolewise train --role teacher --resume "
                f"{self.run.path}`, or name one with `--teacher FILE`."
            )
        return load_network(path).eval()

    def student(self) -> nn.Module:
        """The student before training: quantized, its weights the teacher's where names and shapes match."""
        section = self.config.student
        name = section.network or self.config.teacher.network
        arguments = (
            section.arguments if section.network else {**self.config.teacher.arguments, **section.arguments}
        )
        model = networks.build(name, num_classes=len(self.data.classes), **arguments)
        model.reset(torch_generator(self.config.seed, "init", "student"))
        if section.init == "teacher":
            report = networks.init_from(model, self.teacher())
            if report.missing:
                self.progress.note(
                    f"student: {len(report.missing)} tensors are not the teacher's: {_some(report.missing)}"
                )
        if section.weight_bits < 32 or section.act_bits < 32:
            quantize(model, section.weight_bits, section.act_bits, method=section.quantizer)
        return model

    def loss(self) -> KDLoss | None:
        """The distillation loss that the settings name."""
        section = self.config.kd
        if section.loss == "none":
            return None
        return load_loss(section.loss, variant=section.variant, **section.arguments)

    def objective(self, role: str, *, kd: bool = True) -> Objective:
        """What is minimised; a distillation loss comes prepared on the teacher."""
        loss = self.loss() if role == "student" and kd else None
        if loss is None:
            return CrossEntropy()
        section = self.config.kd
        objective = Distill(
            self.teacher(),
            loss,
            section.weight,
            task_weight=section.task_weight,
            decay=section.decay,
            clip=section.clip,
            lambda_mode=section.lambda_mode,
            decay_factor=section.decay_factor,
            prepare_epochs=section.prepare_epochs,
        )
        with self.in_turn():
            self._prepare(objective)
        return objective

    def _prepare(self, objective: Distill) -> None:
        """Trains the loss's own parts on the teacher, once for search, final run, baselines and resume."""
        if objective.loss.prepared:
            return
        path = self.run.file("kd.safetensors")
        # One key: safetensors writes several in an order that differs from process to process.
        about = json.dumps(
            {"teacher": digest(objective.teacher), "loss": self.config.kd.loss}, sort_keys=True
        )
        if path.exists():
            with safe_open(path, framework="pt") as file:
                if (file.metadata() or {}).get("about") == about:
                    objective.loss.restore({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
                    return
        settings = self.settings("student")
        with self._cost("prepare-kd"), torch_threads(settings.threads):
            objective.prepare(self.data.train, seed=self.config.seed, device=settings.device)
        state = {name: tensor.contiguous() for name, tensor in objective.loss.state_dict().items()}
        write_atomic(path, safetensors_save(state, metadata={"about": about}))

    # The two kinds of work.

    def search(self, role: str) -> Schedule:
        """Searches a role's schedule, or reads it where that is done; writes `A_T.json` or `A_S.json`."""
        name, file = f"search-{role}", f"{SCHEDULES[role]}.json"
        if self.run.done(name):
            return Schedule.load(self.run.file(file))
        data, section = self.search_data(role), self.config.search
        model = self.new_teacher(len(data.classes)) if role == "teacher" else self.student()
        objective = self.objective(role)
        with self._cost(name) as cost:
            result = search(
                model,
                data,
                objective=objective,
                population=section.population,
                epochs=section.epochs,
                interval=section.interval,
                init="random" if role == "teacher" else "given",
                seed=self.config.seed,
                role=role,
                run=self.run,
                settings=self.settings(role, searching=True),
                train_images=self.config.data.search_train,
                validation_images=self.config.data.search_validation,
                quantile=section.quantile,
                resample=section.resample,
                workers=self.config.machine.workers or cores(),
                engine=section.engine,
                ray_address=section.ray_address,
                gpus_per_member=section.gpus_per_member,
                warm_start=self._warm_start(role),
                early_stop=section.early_stop,
                method=section.method,
                checkpoint_seconds=self.config.machine.checkpoint_seconds,
                progress=self.progress,
                should_stop=self.should_stop,
                details=True,
            )
            cost["images"] = result.images
            cost["seconds"] = result.cost.wall_seconds  # over all sittings
            cost["cpu_seconds"] = result.cost.cpu_seconds
        result.schedule.save(self.run.file(file))
        self._record("searches", {role: result.summary()})
        self.run.mark_done(name)
        return result.schedule

    def _warm_start(self, role: str) -> Schedule | None:
        name = self.config.search.warm_start
        if name is None or (name == "A_T" and role == "teacher"):
            return None
        path = self.run.file("A_T.json") if name == "A_T" else Path(name)
        return Schedule.load(path, self.config.search.epochs).stretch(self.config.search.epochs)

    def train(self, key: str) -> None:
        """One final training of `TRAININGS`; writes the network, and its row of the result table."""
        training = TRAININGS[key]
        if self.run.done(f"train-{key}"):
            return
        settings = self.settings(training.role)
        schedule = self.schedule(training, settings.epochs)
        teaches = training.role == "teacher"
        model = self.new_teacher(len(self.data.classes)) if teaches else self.student()
        objective = self.objective(training.role, kd=training.kd)
        with self._cost(f"train-{key}") as cost, torch_threads(settings.threads):
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
            history = fit(trainer, schedule, run=self.run, stage=f"train-{key}", save_seconds=save_seconds)
            result = test(trainer, self.data.test, history)
            cost["images"] = settings.epochs * trainer.steps * settings.batch_size
        self._finish(training, model, result, settings, None if schedule is None else training.schedule)

    def take_teacher(self, path: Path) -> None:
        """Puts a network that was trained elsewhere in the teacher's place, after testing it."""
        training, settings = TRAININGS["teacher"], self.settings("teacher")
        if self.run.done("train-teacher"):
            return
        model = load_network(path)
        trainer = Trainer(model, CrossEntropy(), self.data.train, settings, seed=self.config.seed)
        with torch_threads(settings.threads):
            result = test(trainer, self.data.test, [])
        self._finish(training, model, result, settings, None)

    def schedule(self, training: Training, epochs: int) -> Schedule | None:
        """A training's schedule, stretched to its length; settings may name a file, or `none`."""
        if training.schedule is None:
            return None
        role = "teacher" if training.schedule == "A_T" else "student"
        named = self.config.role(role).schedule
        if named == "none":
            return None
        path = self.run.file(f"{training.schedule}.json") if named is None else Path(named)
        if named is None and not path.exists():
            raise InputError(
                f"{self.run.path} has no {training.schedule}.json yet: search it with `rolewise search --role {role} "
                f"--resume {self.run.path}`, or name one with `--schedule FILE`, or train without: `--schedule none`."
            )
        found = Schedule.load(path, self.config.search.epochs if named is None else None)
        if len(found) != epochs:
            self.progress.note(
                f"{training.schedule}: {len(found)} epochs stretched to the training's {epochs}"
            )
        return found.stretch(epochs)

    # Records.

    def _finish(
        self,
        training: Training,
        model: nn.Module,
        result: Result,
        settings: TrainSettings,
        schedule: str | None,
    ) -> None:
        if not self.leads:
            return
        path = self.run.file(training.file)
        path.parent.mkdir(exist_ok=True)
        save_network(model, path, extra={"data": self.config.data.name, "classes": list(self.data.classes)})
        student, kd = self.config.student, self.config.kd.loss
        low = training.role == "student"
        row = {
            "key": training.key,
            "name": training.title,
            "role": training.role,
            "weight_bits": student.weight_bits if low else 32,
            "act_bits": student.act_bits if low else 32,
            "kd": kd if training.kd and kd != "none" else None,
            "schedule": schedule,
            "accuracy": result.accuracy,
            "loss": result.loss,
            "n": result.n,
            "accuracy_batch_statistics": result.batch_statistics,
            "epochs": settings.epochs,
            "seed": self.config.seed,
            "baseline": training.baseline,
        }
        self._record("rows", row)
        log = {
            "accuracy": result.accuracy,
            "loss": result.loss,
            "accuracy_batch_statistics": result.batch_statistics,
        }
        self.run.append_metrics(
            stage=f"train-{training.key}",
            role=training.role,
            member=None,
            split="test",
            epoch=settings.epochs,
            **log,
        )
        self.run.mark_done(f"train-{training.key}")

    def results(self) -> dict[str, Any]:
        """What `results.json` holds so far."""
        path = self.run.file("results.json")
        empty: dict[str, Any] = {"rows": [], "searches": {}, "costs": []}
        return self.run.read_json("results.json") if path.exists() else empty

    def _record(self, part: str, entry: dict[str, Any]) -> None:
        results = self.results()
        if part == "searches":
            results["searches"].update(entry)
        else:
            key = "key" if part == "rows" else "stage"
            results[part] = [one for one in results[part] if one[key] != entry[key]] + [entry]
        self.run.write_json("results.json", results)

    @contextmanager
    def _cost(self, stage: str) -> Iterator[dict[str, Any]]:
        """Measures a stage; the clock goes into the results' costs and nowhere else."""
        cost: dict[str, Any] = {"stage": stage, "images": None}
        wall, before = time.monotonic(), os.times()
        yield cost
        after = os.times()
        cost.setdefault("seconds", time.monotonic() - wall)
        cost.setdefault("cpu_seconds", sum(after[:4]) - sum(before[:4]))
        self._record("costs", cost)


def stage_alpha(pipeline: Pipeline) -> None:
    """Search A_T for the teacher, train the teacher under it (or take a teacher that was trained elsewhere)."""
    section = pipeline.config.teacher
    if section.file is not None:
        pipeline.take_teacher(Path(section.file))
        return
    if section.schedule is None:
        pipeline.search("teacher")
    pipeline.train("teacher")


def stage_beta(pipeline: Pipeline) -> None:
    """Search the student's own A_S with the fixed teacher, train the student under it."""
    if pipeline.config.student.schedule is None:
        pipeline.search("student")
    pipeline.train("student")


def baselines(pipeline: Pipeline) -> None:
    """The students that the result is compared with; all start from the teacher's weights and see the same batches."""
    for training in TRAININGS.values():
        needs_schedule = training.schedule == "A_T" and not pipeline.run.file("A_T.json").exists()
        if training.baseline and not (needs_schedule and pipeline.config.teacher.schedule in (None, "none")):
            pipeline.train(training.key)


def run_all(pipeline: Pipeline) -> dict[str, Any]:
    """Both stages and, unless switched off, the baselines; returns the results."""
    stage_alpha(pipeline)
    stage_beta(pipeline)
    if pipeline.config.baselines:
        baselines(pipeline)
    return pipeline.results()


def _some(names: Any, most: int = 4) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
