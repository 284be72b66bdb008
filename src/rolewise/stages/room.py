"""Whether the disk has room for a run: told at the start, not after hours."""

from rolewise import networks
from rolewise.config import Config

_FLOAT = 4  # bytes
_COPIES = 2  # of each parameter: itself and its momentum
_KEPT = 3  # checkpoints of a stage: the last two, and the one that is being written


def bytes_needed(config: Config, classes: int) -> int:
    """About what the checkpoints and networks of a run take at most, in bytes.

    A search keeps the state of every member; the checkpoints of a stage that is done stay where they are.
    """
    section = config.student
    sizes = {
        "teacher": _parameters(config.teacher.network, classes, config.teacher.arguments),
        "student": _parameters(
            section.network or config.teacher.network,
            classes,
            section.arguments if section.network else {**config.teacher.arguments, **section.arguments},
        ),
    }
    states = (config.search.population + len(sizes)) * _COPIES * _KEPT
    return _FLOAT * states * sum(sizes.values())


def _parameters(network: str, classes: int, arguments: dict[str, object]) -> int:
    model = networks.build(network, num_classes=classes, **arguments)
    return sum(parameter.numel() for parameter in model.parameters())
