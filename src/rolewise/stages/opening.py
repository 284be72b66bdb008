"""How a run is opened: a new one only once its settings are checked, an old one with what its progress lets change."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rolewise._roles import ROLES, SCHEDULES, STUDENT, TEACHER
from rolewise.config import Config, changed, flat, load_config, parse_config
from rolewise.data import Data
from rolewise.errors import InputError, Interrupted
from rolewise.progress import Progress
from rolewise.runs import RunDirectory, layout, open_run, read_config
from rolewise.settings.search import PLACE
from rolewise.stages import build, inputs, own
from rolewise.stages.check import check
from rolewise.stages.pipeline import Pipeline
from rolewise.stages.trainings import TRAININGS
from rolewise.trainer.parallel import Group

Settings = Config | Mapping[str, Any]

# What a resumed run may change at any time: it does not move results.
_FREE = {
    "baselines",
    "data.root",  # the fingerprint says whether the images are the same
    "machine.workers",
    "machine.record_steps",
    "machine.checkpoint_seconds",
    *(f"search.{name}" for name in PLACE),
}
_SEARCH, _TRAIN = "search", "train"
# Which stages depend on a setting, by the beginning of its name: kinds, and role; the first that fits counts.
_DEPENDS: tuple[tuple[str, tuple[str, ...], str | None], ...] = (
    ("teacher.train.", (_SEARCH, _TRAIN), TEACHER),
    ("teacher.search_data", (_SEARCH,), TEACHER),
    ("student.", (_SEARCH, _TRAIN), STUDENT),
    ("kd.", (_SEARCH, _TRAIN), STUDENT),
    ("search.", (_SEARCH,), None),
    ("data.search_", (_SEARCH,), None),
)
_LOSS = ("loss", "variant", "arguments")
_LOSS_FACTORS = ("weight", "task_weight", "decay", "clip")  # settings of `kd` that a loss has of its own
_RUNS = Path("runs")  # where directories without a name of their own go


@contextmanager
def open_pipeline(
    config: Settings | None = None,
    *,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    only: str | None = None,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
    group: Group | None = None,
) -> Iterator[Pipeline]:
    """The pipeline on a new run directory, or on one that is resumed; a signal stops it within one batch.

        with open_pipeline({"data.name": "cifar10", "data.root": "~/data"}, out="runs/first") as pipeline:
            run_all(pipeline)

    Args:
        config: settings of a new run, whole or as dotted names with values ("student.weight_bits": 2); with `resume`,
            what is to change in the run's own.
        out: the directory of a new run; None takes the next free one in `runs/`.
        resume: the directory of a run that was begun before.
        only: the one stage that is wanted, such as "search-teacher" or "train-student" (see `rolewise.runs.layout`);
            None is the whole run.
        progress: receives what happens.
        should_stop: polled before every batch; True saves and stops, as a signal does.
        group: the processes that train together; the first one opens the run and writes, the others follow it.

    Raises:
        InputError: settings that cannot be, a directory that is taken, changes that a resumed run does not allow;
            nothing is left behind.
        RunError: another process uses the directory.
        Interrupted: a signal came; what is saved can be resumed.
    """
    if out is not None and resume is not None:
        raise InputError("`--out` makes a new run and `--resume` continues one: give one of them.")
    if group is not None and group.rank != 0:
        with _follow(group) as pipeline:
            yield pipeline
        return
    progress = progress or Progress()
    settings = settings_of(config, resume)
    if resume is not None:
        own.check_unchanged(resume, settings, config if isinstance(config, Mapping) else {})
    settings = own.absolute(settings)
    data: Data | None = None
    if resume is None:
        data = check(settings, only=only)
        settings = inputs.absolute(build.resolve(settings, data))
    path = resume or out or _free_directory(settings.data.name)
    about, on = settings.model_dump(), resume is not None
    with open_run(path, about, resume=on, note=progress.note, should_stop=should_stop) as opened:
        assert opened.directory is not None
        if resume is None:
            inputs.keep(opened.directory, settings)
        else:
            data = _resume(opened.directory, settings, only, progress)
        progress.opened(opened.directory.path)
        own.keep(opened.directory, settings, progress)
        pipeline = Pipeline(
            inputs.placed(opened.directory, settings),
            opened.directory,
            data=data,
            progress=progress,
            should_stop=_polled(opened.should_stop, progress),
            group=group,
        )
        with _leading(pipeline, whole=only is None):
            yield pipeline


def _polled(should_stop: Callable[[], bool], progress: Progress) -> Callable[[], bool]:
    """`should_stop`, which is polled all the time, so that a display can be kept up to date by it."""

    def poll() -> bool:
        progress.beat()
        return should_stop()

    return poll


@contextmanager
def _leading(pipeline: Pipeline, *, whole: bool) -> Iterator[None]:
    """Says where the run is, to a person and to the processes that follow; says how to resume one that stops."""
    run, group = pipeline.run, pipeline.group
    pipeline.progress.note(f"run directory {run.path}, seed {pipeline.config.seed}")
    try:
        pipeline.note_own_networks()
        pipeline.note_room()
        if group is not None:
            group.broadcast_object({"path": str(run.path), "config": pipeline.config.model_dump()})
        yield
    except Interrupted as error:
        # `rolewise run` would do the stages that were not asked for as well.
        how = f": rolewise run --resume {run.path}" if whole else f" the same command and --resume {run.path}"
        raise Interrupted(f"{error}. Resume with{how}") from error
    finally:
        pipeline.progress.finish()


def settings_of(config: Settings | None, resume: str | Path | None = None) -> Config:
    """The settings that `open_pipeline` would take.

    Raises:
        InputError: settings that cannot be, or `resume` is no run directory.
    """
    if isinstance(config, Config):
        return config
    if resume is None:
        return load_config(options=config or {})
    changes = config or {}
    before = read_config(resume)["config"]
    if changes.get("preset", before.get("preset")) != before.get("preset"):
        raise InputError(
            f"`preset` is {before.get('preset')!r} in {resume}, and a run that is resumed has its settings: change "
            "single ones, or start another run with `--out`."
        )
    loss = before.get("kd") or {}
    if not any(f"kd.{key}" in changes and changes[f"kd.{key}"] != loss.get(key) for key in _LOSS):
        return inputs.absolute(changed(before, changes), changes)
    # Another loss comes with factors of its own, unless the changes name them as well.
    own_factors = {f"kd.{name}": None for name in _LOSS_FACTORS}
    return build.resolve_loss(inputs.absolute(changed(before, {**own_factors, **changes}), changes))


@contextmanager
def _follow(group: Group) -> Iterator[Pipeline]:
    """The pipeline of a process that shares the first one's training."""
    first = group.broadcast_object()
    with open_run(first["path"], read_only=True, note=lambda text: None) as opened:
        assert opened.directory is not None
        yield Pipeline(
            parse_config(first["config"]), opened.directory, should_stop=opened.should_stop, group=group
        )


def _resume(run: RunDirectory, settings: Config, only: str | None, progress: Progress) -> Data | None:
    """Takes the changes that the run's progress still allows, and checks what no stage has tried yet.

    Args:
        run: the run directory.
        settings: all settings, changes included.
        only: the one stage that is wanted.
        progress: receives what a person should know.

    Raises:
        InputError: a change of what results were made with, or settings that cannot be.
    """
    before, after = flat(parse_config(run.config).model_dump()), flat(settings.model_dump())
    begun = [stage for stage in run.begun() if stage != layout.PREPARE]  # its file says what it depends on
    rewritten = own.rewritten(run.path, settings)
    # What was asked for comes before the factors that another loss brings along.
    factors = {f"kd.{name}" for name in _LOSS_FACTORS}
    for key in sorted(before.keys() | after.keys(), key=lambda key: (key in factors, key)):
        stage = next((stage for stage in begun if _depends(key, stage)), None)
        other = before.get(key) != after.get(key) and not own.same_code(run.path, key, after.get(key))
        if (other or key in rewritten) and stage is not None:
            raise InputError(
                f"`{key}` is {before.get(key)!r} in {run.path} and cannot become {after.get(key)!r}: the stage "
                f'"{stage}" was made with it. Start another run with `--out`; another schedule is a row of its own: '
                "`--as NAME`."
            )
    student = any(_role(stage) != TEACHER for stage in begun)
    data = None
    if before != after or not student:
        data = check(inputs.placed(run, settings), only=only, begun=True)
    if before != after:
        run.update_config(settings.model_dump())
    inputs.keep(run, settings)
    for change in run.changes():
        progress.note(f"since this run was started: {change}")
    return data


def _depends(key: str, stage: str) -> bool:
    """Whether the results of a stage depend on a setting."""
    if key in _FREE:
        return False
    role = _role(stage)
    kind = _SEARCH if role is not None and stage == layout.search_stage(role) else _TRAIN
    if key.endswith(".schedule"):  # of final trainings alone: the role's own, and those that borrow it
        names = SCHEDULES[key.removesuffix(".schedule")]
        return any(training.stage == stage and training.schedule == names for training in TRAININGS.values())
    for beginning, kinds, whose in _DEPENDS:
        if key.startswith(beginning):
            return kind in kinds and (whose is None or role in (whose, None))
    return True


def _role(stage: str) -> str | None:
    """Whose stage it is; None where the name does not say."""
    searched = next((role for role in ROLES if stage == layout.search_stage(role)), None)
    trained = TRAININGS.get(layout.trained_in(stage) or "")
    return searched if trained is None else trained.role


def _free_directory(name: str) -> Path:
    number = 1
    while (path := _RUNS / f"{name}-{number:03d}").exists():
        number += 1
    return path
