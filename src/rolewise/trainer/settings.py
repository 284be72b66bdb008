"""How a network is trained: the numbers of one training, and what is chosen from the machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal, Unpack

import torch
from pydantic import Field

from rolewise.augment import Mixing
from rolewise.errors import InputError
from rolewise.objective import Placement
from rolewise.settings import STUDENT, ComputeSettings, Integer, TrainOptions, TrainRecipe, settings
from rolewise.trainer.evaluation import default_batch


@settings
class TrainSettings(ComputeSettings, TrainRecipe):
    """The numbers of one training: what it does (`TrainRecipe`), and how it is computed (`ComputeSettings`).

    `replace` changes single fields of one; each is described beside its definition in `rolewise.settings`.
    """

    threads: Integer = Field(
        default=1, ge=1, description="threads of torch on a CPU; members of a search always use one"
    )

    @property
    def mixing(self) -> Mixing | None:
        """How the images of a batch are mixed; None where they are not."""
        if self.mixup is None and self.cutmix is None:
            return None
        return Mixing(self.mixup, self.cutmix, self.mix_probability)

    def resolved(self) -> "TrainSettings":
        """With what the machine decides written down, so that a resume elsewhere computes the same way.

        Raises:
            InputError: a device that is not there.
        """
        device = self.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            kind = torch.device(device).type
        except RuntimeError:
            kind = "unknown"
        if kind not in ("cpu", "cuda"):
            raise InputError(
                f'`device` must be "cpu", "cuda", "cuda:1" and so on, or "auto", got "{device}".'
            )
        if kind == "cuda" and not torch.cuda.is_available():
            raise InputError(f'`device` is "{device}", but PyTorch sees no CUDA device. Use "cpu" or "auto".')
        if kind == "cuda" and (torch.device(device).index or 0) >= torch.cuda.device_count():
            known = " or ".join(f'"cuda:{number}"' for number in range(torch.cuda.device_count()))
            raise InputError(
                f'`device` is "{device}", but PyTorch sees no CUDA device of that number. Use {known}, or "cuda".'
            )
        precision = self.precision
        if precision == "auto":
            precision = "bf16" if _computes_bf16(torch.device(device)) else "fp32"
        layout = self.channels_last
        if layout is None:
            layout = precision == "bf16" or torch.device(device).type == "cuda"
        batch = self.eval_batch or default_batch(torch.device(device))
        return replace(self, device=device, precision=precision, channels_last=layout, eval_batch=batch)

    def placement(self) -> Placement:
        """Where and how the networks run."""
        chosen = self.resolved()
        precision: Literal["fp32", "bf16"] = "bf16" if chosen.precision == "bf16" else "fp32"
        return Placement(torch.device(chosen.device), precision, bool(chosen.channels_last), chosen.compile)


def teacher_settings(epochs: int = 200, **changes: Unpack[TrainOptions]) -> TrainSettings:
    """The paper's settings of 32-bit training without a teacher."""
    return TrainSettings(epochs, **changes)


def student_settings(epochs: int = 200, **changes: Unpack[TrainOptions]) -> TrainSettings:
    """The paper's settings of low-bit students: Adam, weight decay on weights alone."""
    chosen: TrainOptions = {**STUDENT, **changes}
    return TrainSettings(epochs, **chosen)


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Torch computes with `count` threads while the context lasts."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _computes_bf16(device: torch.device) -> bool:
    """Whether bf16 arithmetic is in the hardware; without it autocast may be slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def __getattr__(name: str) -> object:
    """`make_optimizer`, which has a file of its own, for programs outside this package that import it from here."""
    if name == "make_optimizer":
        from rolewise.trainer.optimizer import make_optimizer

        return make_optimizer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
