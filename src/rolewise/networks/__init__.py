"""Networks for small images, by name; each names its `taps` and `act_points`."""

from collections.abc import Callable, Mapping
from typing import Any

from rolewise.errors import InputError, InputTypeError, unknown
from rolewise.networks.alexnet import alexnet
from rolewise.networks.base import InitReport, Network, init_from
from rolewise.networks.resnet import cnn_tiny, resnet8, resnet8_small, resnet18

Builder = Callable[..., Network]

NETWORKS: Mapping[str, Builder] = {
    "resnet18": resnet18,
    "resnet8": resnet8,
    "alexnet": alexnet,
    "resnet8-small": resnet8_small,
    "cnn-tiny": cnn_tiny,
}


def build(name: str, **arguments: Any) -> Network:
    """The network of this name.

    Args:
        name: a key of `NETWORKS`.
        arguments: those of its builder: `num_classes`, `seed`, ...

    Raises:
        InputError: an unknown name, or arguments that its builder does not take.
    """
    if name not in NETWORKS:
        raise InputError(unknown("network", name, NETWORKS))
    try:
        return NETWORKS[name](**arguments)
    except InputError:
        raise
    except TypeError as error:
        raise InputTypeError(f'The network "{name}" cannot be built with {arguments}: {error}.') from error


__all__ = ["NETWORKS", "Builder", "InitReport", "Network", "build", "init_from"]
