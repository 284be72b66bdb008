"""Whether the disk has room for a run: told at the start, not after hours."""

from rolewise.config import Config
from rolewise.stages import parts

_FLOAT = 4  # bytes
_COPIES = 2  # of each parameter: itself and its momentum
_KEPT = 3  # checkpoints of a stage: the last two, and the one that is being written


def bytes_needed(config: Config, classes: int) -> int:
    """About what the checkpoints and networks of a run take at most, in bytes.

    A search keeps the state of every member; the checkpoints of a stage that is done stay where they are.
    """
    networks = parts.new_teacher(config, classes), parts.new_student(config, classes, None)[0]
    parameters = sum(parameter.numel() for network in networks for parameter in network.parameters())
    return _FLOAT * parameters * (config.search.population + len(networks)) * _COPIES * _KEPT
