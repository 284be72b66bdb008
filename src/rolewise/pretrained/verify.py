"""A written file against the network that it came from, on random images."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from rolewise.errors import InputError, first_line
from rolewise.pretrained.tracing import image_channels, set_rounding

Run = Callable[[Tensor], Tensor]

# Root mean square of the gap, as a share of that of the logits, without rounding of activations.
TOLERANCE = 5e-4
OWN_ERROR = 30  # or this multiple of PyTorch's own float32 error, whichever is greater
ROUNDED_TOLERANCE = 1.0  # the same with rounding
BATCHES = (1, 3)


def check_file(model: nn.Module, unrounded: Run, rounded: Run, image_size: tuple[int, int]) -> None:
    """Runs a file and its network on random images of two batch sizes.

    A sum in another order may round to another level, and one level more or less spreads through a deep low-bit
    network. So the strict comparison is made without the rounding of activations, on the same graph; with rounding
    the file must run and be near. Some networks amplify every error (one before its training, whose BatchNorm does not
    normalize yet): how much is measured by the network itself, in float32 against float64.

    Args:
        model: the `inference_copy` that was written.
        unrounded: the file's graph without the rounding of activations.
        rounded: the file.
        image_size: height and width.

    Raises:
        InputError: they differ, or the file does not run.
    """
    generator = torch.Generator().manual_seed(0)
    wide = copy.deepcopy(model).double()
    set_rounding(wide, False)
    for batch in BATCHES:
        images = torch.randn(batch, image_channels(model), *image_size, generator=generator)
        for run, rounds in ((unrounded, False), (rounded, True)):
            found = _run(run, images)
            set_rounding(model, rounds)
            with torch.no_grad():
                expected = model(images)
                if rounds:
                    allowed = ROUNDED_TOLERANCE
                else:
                    own = _share(expected, wide(images.double()), batch)
                    allowed = max(TOLERANCE, OWN_ERROR * own)
            share = _share(found, expected, batch)
            if not share <= allowed:
                raise InputError(_differs(share, batch, rounds))


def _run(run: Run, images: Tensor) -> Tensor:
    try:
        return run(images)
    except InputError:
        raise
    except Exception as error:  # the runtimes raise their own classes, by no common one
        reason = first_line(error)
        raise InputError(
            f"Export: the file cannot be run on {_some(len(images))} ({reason[:200]}). It was not kept."
        ) from error


def _share(found: Tensor, expected: Tensor, batch: int) -> float:
    """Root mean square of the gap, as a share of that of the expected logits; places where both are NaN count as equal.

    Raises:
        InputError: another shape.
    """
    if found.shape != expected.shape:
        raise InputError(
            f"Export: on {_some(batch)} the network gives {tuple(expected.shape)} and the file {tuple(found.shape)}. "
            f"It was not kept."
        )
    gap = (found.double() - expected.double()).masked_fill_(found.isnan() & expected.isnan(), 0)
    size = expected.double().nan_to_num().square().mean().sqrt()
    return float(gap.square().mean().sqrt() / size.clamp_min(1e-12))


def _some(batch: int) -> str:
    return f"{batch} random image{'s' if batch > 1 else ''}"


def _differs(share: float, batch: int, rounds: bool) -> str:
    return (
        f"Export: the file differs from the network by {100 * share:.2g} % on {_some(batch)}"
        f"{'' if rounds else ', without the rounding of activations'}. It was not kept. Something in the network's "
        f"forward pass is not what its traced graph says, such as a choice that depends on the data."
    )
