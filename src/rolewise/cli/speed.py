"""Measures a run's student on the machine at hand, for the report."""

from pathlib import Path

from rolewise._roles import STUDENT
from rolewise.cli.network_files import checked_run, info_for, network_file, open_network


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


def measure_once(run_dir: Path) -> None:
    """The same, unless the student was measured already."""
    from rolewise.report.inference import is_measured

    if not is_measured(run_dir):
        measure_speed(run_dir)
