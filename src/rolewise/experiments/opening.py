"""Opens the pipeline of one piece of work on its run directory."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rolewise.config import Config, cores, parse_config
from rolewise.progress import Progress
from rolewise.runs import RunDirectory
from rolewise.stages import Pipeline
from rolewise.trainer import TrainSettings


@contextmanager
def open_pipeline(
    config: Config,
    *,
    out: Path | None = None,
    resume: Path | None = None,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Iterator[Pipeline]:
    """The pipeline on a new run directory, or on one that is resumed with its own settings."""
    machine = config.machine
    chosen = TrainSettings(
        1, device=machine.device, precision=machine.precision, channels_last=machine.channels_last
    ).resolved()
    update = {
        "device": chosen.device,
        "precision": chosen.precision,
        "channels_last": chosen.channels_last,
        "threads": machine.threads or cores(),
    }
    config = config.model_copy(update={"machine": machine.model_copy(update=update)})
    run = (
        RunDirectory.open(resume)
        if resume is not None
        else RunDirectory.create(Path(str(out)), config.model_dump())
    )
    with run:
        settings = config if resume is None else parse_config(run.config)
        yield Pipeline(settings, run, progress=progress, should_stop=should_stop)
