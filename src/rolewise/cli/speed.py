"""Measures a run's student on the machine at hand, for the report."""

from pathlib import Path
from typing import TYPE_CHECKING

from rolewise._roles import STUDENT
from rolewise.cli.network_files import checked_run, info_for, network_file, open_network

if TYPE_CHECKING:
    from rolewise.stages import Pipeline


def measure_speed(run_dir: Path) -> None:
    """Writes `inference.json` of a run.

    Raises:
        InputError: no run, no student yet, own code that was changed, or a directory that cannot be written.
    """
    from rolewise.pretrained import describe
    from rolewise.report.inference import measure
    from rolewise.runs import read_config

    read_config(run_dir)
    file = network_file(run_dir, STUDENT)
    config, about = checked_run(file, STUDENT, None), describe(file)
    model = open_network(file, about, config, None)
    steps = info_for(file, about, STUDENT, config).preprocessing
    measure(run_dir, model, image_size=(32, 32) if steps is None else steps.size)


def measure_once(pipeline: "Pipeline") -> None:
    """The same at the end of a run, with the run's own settings and data; a student that is measured stays so."""
    from rolewise.report.inference import is_measured, measure
    from rolewise.runs import layout
    from rolewise.stages.build import image_form, load_trained

    folder = pipeline.run.path
    if is_measured(folder):
        return
    pipeline.progress.note("the student's size and speed are measured on this machine")
    image = image_form(pipeline.data)
    file = folder / layout.network_file(STUDENT)
    model = load_trained(pipeline.config, file, STUDENT, len(pipeline.data.classes), image)
    measure(folder, model, image_size=image[1:])
