"""Every setting of a run: one tree, from a preset, a file and `--set`, checked as a whole before any work."""

from rolewise.config.loading import changed, flat, load_config, load_tree, parse_config, read_changes
from rolewise.config.presets import PRESETS
from rolewise.config.sections import (
    BASELINES,
    Baseline,
    Config,
    DataConfig,
    KDConfig,
    MachineSettings,
    SearchConfig,
    StudentConfig,
    TeacherConfig,
)

__all__ = [
    "BASELINES",
    "PRESETS",
    "Baseline",
    "Config",
    "DataConfig",
    "KDConfig",
    "MachineSettings",
    "SearchConfig",
    "StudentConfig",
    "TeacherConfig",
    "changed",
    "flat",
    "load_config",
    "load_tree",
    "parse_config",
    "read_changes",
]
