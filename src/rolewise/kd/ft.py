"""Factor transfer."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from rolewise.errors import InputError, RunError, check_integer
from rolewise.kd._images import training_batches
from rolewise.kd.base import KDLoss, Outputs, TrainingImages, check_teacher, collect, tap_names
from rolewise.kd.checks import Shapes, check_built, check_choice, check_features, check_positive, shapes_of
from rolewise.kd.layers import conv, same_size, transposed_conv, unit
from rolewise.kd.preparation import preparation
from rolewise.seeds import torch_generator

_SLOPE = 0.1  # of every leaky ReLU
_PARTS = tuple(f"encoder_{part}_{index}" for index in range(3) for part in ("weight", "bias"))


_WEIGHTS = {"full": 500.0, "spatial": 200.0}


class FT(KDLoss):
    """The student's translator gives the factors into which a paraphraser has compressed the teacher's map.

    Source: Kim et al., NeurIPS 2018, eq. 1 (paraphraser) and 4 (transfer, p = 1):

        first, on the teacher alone:  min mean (decode(encode(F_T)) - F_T)^2
        then:  L = mean |f_T / |f_T| - f_S / |f_S||  over the images' whole factors f_T = encode(F_T), f_S

    encode: three 3x3 convolutions, leaky ReLU 0.1, `rate` of the teacher's channels; decode: its mirror image;
    the translator is built like encode, with batch norm. The weight is that of the authors' code, 500. RepDistiller's
    form of the loss, `form="spatial"`, averages the squared factors over channels first; its weight is 200.

    Layers: the last. Channels may differ; where sizes differ the larger factors are average-pooled. The
    translator is trained with the student, the paraphraser in `prepare` and fixed from then on: its encoder
    lives in buffers, its decoder is not kept.

    Our choice: the paraphraser learns by Adam at 1e-3, since without batch norm the published steps of SGD (0.1;
    RepDistiller 0.01 or 0.05) diverge or not with the scale of the teacher's maps.

    Args:
        rate: factors per channel of the teacher, > 0 (the paper's k).
        form: "full" or "spatial".
    Shape:
        maps (n, c, h, w); returns ().
    Raises:
        InputError: student and teacher do not fit, or `build` or `prepare` has not been called.
    """

    weight = _WEIGHTS["full"]
    learning_rate = 1e-3  # of the paraphraser
    batch = 128

    def __init__(
        self,
        taps: Sequence[str] | None = None,
        teacher_taps: Sequence[str] | None = None,
        *,
        rate: float = 0.5,
        form: Literal["full", "spatial"] = "full",
    ) -> None:
        super().__init__(taps, teacher_taps)
        self.rate = check_positive("rate", rate)
        self.form = check_choice("form", form, ("full", "spatial"))
        self.weight = _WEIGHTS[form]
        self.translator: nn.Module = nn.Identity()
        for name in _PARTS:
            self.register_buffer(name, None)
        self._shapes: Shapes | None = None

    @property
    def prepared(self) -> bool:
        return self.encoder_weight_0 is not None

    def prepare(self, teacher: nn.Module, split: TrainingImages, *, epochs: int = 40, seed: int = 0) -> None:
        """Trains the paraphraser on the teacher's last map, cropped and mirrored images, squared error."""
        check_teacher(teacher)
        check_integer("epochs", epochs, 1)
        taps = tap_names(teacher, self.teacher_taps, "teacher", kind=self.tap_kind)
        device = next(teacher.parameters()).device
        coder: nn.Sequential | None = None
        loss = torch.zeros(())
        watch = preparation()
        for epoch in range(watch.begun, epochs):
            for images in training_batches(
                split, batch=self.batch, seed=seed, stream="ft", epoch=epoch, device=device
            ):
                with torch.no_grad():
                    target = collect(teacher, images, taps[-1:], "teacher").features[0].float()
                if coder is None:
                    coder = self._paraphraser(target.shape[1], torch_generator(seed, "ft")).to(device)
                    optimizer = torch.optim.Adam(coder.parameters(), self.learning_rate)
                    watch.restore([coder], optimizer)
                optimizer.zero_grad(set_to_none=True)
                loss = F.mse_loss(coder(target), target)
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            if coder is not None and epoch + 1 < epochs:
                watch.end_epoch(epoch + 1, [coder], optimizer)
        if coder is None or not torch.isfinite(loss):
            raise RunError(
                f"The paraphraser of FT did not learn the teacher's map (last error {loss.item():.3g}): "
                f"are the teacher's features finite?"
            )
        convolutions = [layer for layer in coder[0].modules() if isinstance(layer, nn.Conv2d)]
        parameters = [p for layer in convolutions for p in (layer.weight, layer.bias)]
        for name, parameter in zip(_PARTS, parameters, strict=True):
            assert parameter is not None
            setattr(self, name, parameter.detach().clone())

    def build(self, student: Outputs, teacher: Outputs, *, generator: torch.Generator, images: int) -> None:
        check_features("FT", student, teacher)
        like = student.features[-1]
        self._shapes = shapes_of(student, teacher)
        (channels, *_), (teacher_channels, *_) = self._shapes[-1]
        self.translator = _encoder(channels, self._factors(teacher_channels), generator, norm=True)
        self.to(like.device, like.dtype)

    def forward(self, student: Outputs, teacher: Outputs) -> Float[Tensor, ""]:
        check_features("FT", student, teacher)
        if not self.prepared:
            raise InputError(
                "FT needs its paraphraser: call `prepare(teacher, split)` first (`train` and `search` do)."
            )
        check_built("FT", self._shapes, student, teacher)
        factors = self.translator(student.features[-1])
        s, t = same_size(factors, self._encode(teacher.features[-1]))
        return (self._direction(s) - self._direction(t)).abs().mean()

    def _encode(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n f h w"]:
        for index in range(3):
            weight, bias = getattr(self, f"encoder_weight_{index}"), getattr(self, f"encoder_bias_{index}")
            x = F.leaky_relu(F.conv2d(x, weight, bias, padding=1), _SLOPE)
        return x

    def _direction(self, factors: Float[Tensor, "n f h w"]) -> Float[Tensor, "n p"]:
        if self.form == "spatial":
            factors = factors.square().mean(1, keepdim=True)
        return unit(factors.flatten(1), dim=1)

    def _factors(self, channels: int) -> int:
        return max(1, round(channels * self.rate))

    def _paraphraser(self, channels: int, generator: torch.Generator) -> nn.Sequential:
        factors = self._factors(channels)
        mirror: list[nn.Module] = []
        for inputs, outputs in ((factors, factors), (factors, channels), (channels, channels)):
            mirror += [transposed_conv(inputs, outputs, 3, generator, padding=1), nn.LeakyReLU(_SLOPE)]
        return nn.Sequential(_encoder(channels, factors, generator, norm=False), nn.Sequential(*mirror))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """A fresh object takes a trained paraphraser, whose sizes it learns from the tensors."""
        for name in _PARTS:
            if getattr(self, name) is None and prefix + name in state_dict:
                setattr(self, name, torch.empty_like(state_dict[prefix + name]))
        super()._load_from_state_dict(state_dict, prefix, *rest)


def _encoder(inputs: int, outputs: int, generator: torch.Generator, *, norm: bool) -> nn.Sequential:
    """Three 3x3 convolutions with leaky ReLU: the first keeps the channels, the second gives the factors."""
    layers: list[nn.Module] = []
    for a, b in ((inputs, inputs), (inputs, outputs), (outputs, outputs)):
        layers.append(conv(a, b, 3, generator, padding=1, bias=not norm))
        if norm:
            layers.append(nn.BatchNorm2d(b))
        layers.append(nn.LeakyReLU(_SLOPE))
    return nn.Sequential(*layers)
