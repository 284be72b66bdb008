"""The 4-bit ResNet18 row of the paper's second table, scaled to minutes: both searches, the teacher, five students.

n = 1 (2 for two of the arms) and a fifth of the paper's epochs or less: it shows that the whole path runs on a GPU and
about how the arms lie, not which one wins (two runs of one arm differ by about 0.4 points).
"""

import copy
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gpu_imports  # noqa: F401 - first: what follows may need its stand-in
from gpu_parts import Figures, part_of_cifar100, wait

import rolewise as rw
from rolewise import kd
from rolewise.augment import Schedule
from rolewise.data import Data
from rolewise.errors import Interrupted
from rolewise.objective import CrossEntropy, Distill, Objective
from rolewise.progress import Progress
from rolewise.trainer import Trainer, student_settings
from rolewise.trainer.recorded import record

FAST_ENOUGH = 8.0  # ms a step, up to which II-KD is the loss of the row; else soft labels
ARMS = ("KD only", "A_S", "random", "A_T", "plain")
SECOND_SEED = ("KD only", "A_S")
RESERVE = 30.0  # seconds that a second seed leaves


@dataclass(frozen=True)
class RowSize:
    """How large the row is.

    Args:
        data: a data set's name.
        network: the student's and the teacher's.
        batch: images a step.
        population: members of each search.
        epochs: length of each search.
        interval: epochs between two decisions.
        images: training and validation images of a search.
        teacher_epochs: length of the teacher's training.
        arm_epochs: most epochs of a student; fewer where the time does not suffice.
        timed_steps: steps of the measurement that decides it.
    """

    data: str
    network: str
    batch: int
    population: int
    epochs: int
    interval: int
    images: tuple[int, int]
    teacher_epochs: int
    arm_epochs: int
    timed_steps: int


FULL = RowSize("cifar100", "resnet18", 128, 16, 12, 3, (4000, 4000), 15, 20, 100)
SMOKE = RowSize("digits", "cnn-tiny", 64, 4, 2, 1, (64, 64), 1, 1, 2)


class _Notes(Progress):
    """Keeps why steps were not recorded."""

    def __init__(self) -> None:
        self.eager: list[str] = []

    def note(self, text: str) -> None:
        if text.startswith("Steps are not recorded"):
            self.eager.append(text)


class _Deadline(_Notes):
    """Ends what it hears of when the time is up."""

    def __init__(self, until: float) -> None:
        super().__init__()
        self.until = until

    def batch(self, images: int) -> None:
        if time.monotonic() > self.until:
            raise Interrupted("the time of this unit is up")


class Row:
    """The units of the row; each returns its figures and finds what it needs in those of others.

    Args:
        size: how large everything is.
        out: folder of the schedules, the teacher and the lineages.
        root: folder of the data set's files; with `cifar-100-binary`, whatever part of it is there is taken.
        device: where everything is trained.
        figures: all units' figures so far, of a measurement before too.
    """

    def __init__(self, size: RowSize, out: Path, root: Path | None, device: str, figures: Figures) -> None:
        self.size, self.out, self.root, self.device, self.figures = size, out, root, device, figures
        self._data: Data | None = None

    def units(self, left: Callable[[], float]) -> dict[str, tuple[Callable[[float], Figures], float]]:
        """By name: the unit, called with when it must end, and about how many seconds it takes on a large GPU."""
        made: dict[str, tuple[Callable[[float], Figures], float]] = {
            "row: search alpha": (lambda until: self.search("A_T", until), 45),
            "row: teacher": (self.teacher, 25),
            "row: search beta": (lambda until: self.search("A_S", until), 110),
            "row: pace": (lambda until: self.pace(until, left()), 10),
        }
        for arm in ARMS:
            # `pace` has chosen as many epochs as fit into the call, so its end is each arm's.
            made[f"row: {arm}"] = (lambda _, arm=arm: self.arm(arm, 0, time.monotonic() + left()), 20)
        for arm in SECOND_SEED:
            made[f"row: {arm}, second seed"] = (lambda _, arm=arm: self.second(arm, left()), 20)
        return made

    @property
    def data(self) -> Data:
        if self._data is None:
            part = self.root is not None and (self.root / "cifar-100-binary").is_dir()
            self._data = part_of_cifar100(self.root) if part else rw.load_data(self.size.data, self.root)
        return self._data

    @property
    def loss(self) -> str:
        """II-KD where its recorded step is fast enough."""
        measured = self.figures.get("throughput: 4-bit + ii-kd", {}).get("graphed", {})
        fast = measured.get("ms a step", {}).get("median", float("inf")) <= FAST_ENOUGH
        return "ii-kd" if fast and self.recorded else "soft"

    @property
    def recorded(self) -> bool:
        """Whether steps are recorded: unless that was seen to change the training."""
        return bool(self.figures.get("check: graph against eager", {"ok": True}).get("ok", True))

    def _network(self, seed: int) -> Any:
        return rw.networks.build(self.size.network, num_classes=len(self.data.classes), seed=seed)

    def _task(self) -> Distill:
        teacher = rw.load_network(self.out / "teacher.safetensors").eval()
        return Distill(teacher, kd.LOSSES[self.loss](), prepare_epochs=1)

    def _student(self, task: Distill) -> Any:
        return rw.quantize(copy.deepcopy(task.teacher), 4, 4)

    def _schedule(self, name: str) -> Schedule | None:
        """What a search found, maybe on another machine."""
        unit = {"A_T": "row: search alpha", "A_S": "row: search beta"}[name]
        content = self.figures.get(unit, {}).get("schedule")
        if content is None:
            return None
        path = self.out / f"{name}.json"
        path.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
        return Schedule.load(path)

    def search(self, name: str, until: float) -> Figures:
        """Stage alpha's search for the teacher, or beta's for the student that learns from it."""
        size = self.size
        task = self._task() if name == "A_S" else None
        model = self._network(0) if task is None else self._student(task)
        notes = _Notes()
        found = rw.search(
            model,
            self.data,
            objective=task,
            population=size.population,
            epochs=size.epochs,
            interval=size.interval,
            train_images=size.images[0],
            validation_images=size.images[1],
            batch_size=size.batch,
            device=self.device,
            record_steps=self.recorded,
            workers=1,  # on a GPU its own engine; on a CPU this process, which knows what the image lacks
            should_stop=lambda: time.monotonic() > until,
            progress=notes,
            details=True,
        )
        path = self.out / f"{name}.json"
        found.schedule.save(path)
        moves = [[move.epoch, move.target, move.source] for move in found.lineage.exploits]
        return {
            "loss": None if task is None else self.loss,
            "best": found.best,
            "score": found.score,
            "scores": list(found.scores),
            "moves (epoch, target, source)": moves,
            "schedule": json.loads(path.read_text("utf-8")),
            "stayed eager": notes.eager,
        }

    def teacher(self, until: float) -> Figures:
        """The teacher under A_T; crop and flip alone if there is none."""
        schedule, epochs = self._schedule("A_T"), self.size.teacher_epochs
        model = self._network(0)
        figures = self._train(model, None, schedule, epochs, 0, until)
        rw.export(model.cpu(), self.out / "teacher.safetensors")
        return figures | {"augmentation": "crop and flip" if schedule is None else "A_T"}

    def pace(self, until: float, left: float) -> Figures:
        """Seconds of a student's step under the loss, and how many epochs of each arm fit into what is left."""
        task, size = self._task(), self.size
        task.prepare(self.data.train, seed=0, device=self.device)
        settings = student_settings(1, batch_size=size.batch, device=self.device, record_steps=self.recorded)
        one = Trainer(self._student(task), task, self.data.train, settings, role="student")
        record(one)
        one.begin_epoch()
        take = one.train_step if one.recorded is None else one.recorded
        begun, steps = time.perf_counter(), 0
        for index, batch in enumerate(one.feeder.batches(0, None)):
            take(batch)
            if index == 2:  # warm
                wait(self.device)
                begun, steps = time.perf_counter(), 0
            steps += 1
            if index == 2 + size.timed_steps or time.monotonic() > until:
                break
        wait(self.device)
        seconds = (time.perf_counter() - begun) / max(1, steps - 1)
        epoch = max(seconds * one.steps, 1e-9)
        most = (
            int(0.9 * (left - RESERVE - 3.0 * len(ARMS)) / (len(ARMS) * epoch))
            if left < 1e9
            else size.arm_epochs
        )
        return {
            "ms a step": round(1000 * seconds, 3),
            "loss": self.loss,
            "epochs": max(1, min(size.arm_epochs, most)),
        }

    def arm(self, name: str, seed: int, until: float) -> Figures:
        """A student from the teacher's weights, tested once at the end."""
        task = self._task()
        epochs = self.figures["row: pace"]["epochs"]
        schedule = self._schedule(name) if name in ("A_S", "A_T") else None
        if name in ("A_S", "A_T") and schedule is None:
            return {"left out": f"{name} was not found"}
        if name == "random":
            schedule = Schedule.random(epochs, seed=seed)
        objective = CrossEntropy() if name == "plain" else task
        return self._train(self._student(task), objective, schedule, epochs, seed, until)

    def second(self, name: str, left: float) -> Figures:
        """The arm with another seed, if it leaves a reserve."""
        before = self.figures.get(f"row: {name}", {}).get("seconds", float("inf"))
        if before + RESERVE > left:
            return {"left out": "too little time"}
        return self.arm(name, 1, time.monotonic() + left)

    def _train(
        self,
        model: Any,
        task: Objective | None,
        schedule: Schedule | None,
        epochs: int,
        seed: int,
        until: float,
    ) -> Figures:
        if schedule is not None and len(schedule) != epochs:
            schedule = schedule.stretch(epochs)
        progress = _Deadline(until)
        result = rw.train(
            model,
            self.data,
            objective=task,
            augment=schedule,
            epochs=epochs,
            seed=seed,
            progress=progress,
            batch_size=self.size.batch,
            device=self.device,
            record_steps=self.recorded,
        )
        return {
            "accuracy": result.accuracy,
            "loss": result.loss,
            "n": result.n,
            "training images": len(self.data.train),
            "epochs": epochs,
            "seed": seed,
            "training accuracy": [round(entry["accuracy"], 4) for entry in result.history],
            "stayed eager": progress.eager,
        }
