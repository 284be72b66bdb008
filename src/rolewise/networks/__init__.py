"""Networks for small images, by name; each names its `taps` and `act_points`."""

from collections.abc import Callable, Mapping
from typing import Any

from rolewise.errors import InputError, InputTypeError, unknown
from rolewise.networks.alexnet import alexnet
from rolewise.networks.base import InitReport, Network, init_from
from rolewise.networks.mobilenet import mobilenetv2
from rolewise.networks.resnet import (
    cnn_small,
    cnn_tiny,
    resnet8,
    resnet8_small,
    resnet8x4,
    resnet18,
    resnet20,
    resnet32,
    resnet32x4,
    resnet56,
)
from rolewise.networks.shufflenet import shufflenetv1, shufflenetv2
from rolewise.networks.vgg import vgg8, vgg13
from rolewise.networks.wide_resnet import wrn_16_2, wrn_40_2

Builder = Callable[..., Network]

NETWORKS: Mapping[str, Builder] = {
    "resnet18": resnet18,
    "resnet8": resnet8,
    "alexnet": alexnet,
    "resnet20": resnet20,
    "resnet32": resnet32,
    "resnet56": resnet56,
    "resnet8x4": resnet8x4,
    "resnet32x4": resnet32x4,
    "wrn-16-2": wrn_16_2,
    "wrn-40-2": wrn_40_2,
    "vgg8": vgg8,
    "vgg13": vgg13,
    "mobilenetv2": mobilenetv2,
    "shufflenetv1": shufflenetv1,
    "shufflenetv2": shufflenetv2,
    "resnet8-small": resnet8_small,
    "cnn-tiny": cnn_tiny,
    "cnn-small": cnn_small,
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
