"""Multi-head graph distillation: how the samples of a batch relate from one layer to the next."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from rolewise.errors import InputError, check_integer
from rolewise.kd._images import training_batches
from rolewise.kd.base import KDLoss, Outputs, TrainingImages, check_teacher, collect, tap_names
from rolewise.kd.estimator import Estimator
from rolewise.kd.preparation import preparation
from rolewise.kd.spectral import Aligned, aligned_vectors, check_settings, leading_vectors
from rolewise.seeds import torch_generator


def graph(rows: Float[Tensor, "n d h"], columns: Float[Tensor, "n d h"]) -> Float[Tensor, "h n n"]:
    """Inner products of every sample in the current layer with every sample in the previous one, per head."""
    return torch.einsum("idh,jdh->hij", rows, columns)


def graph_divergence(
    student: Float[Tensor, "h n n"], teacher: Float[Tensor, "h n n"], rows: Bool[Tensor, " n"] | None = None
) -> Float[Tensor, ""]:
    """KL(student || teacher) of the rows' softmax after tanh, summed over heads and rows.

    Args:
        student, teacher: graphs before the tanh.
        rows: which rows count; None for all.
    """
    p = F.log_softmax(student.tanh(), dim=2)
    q = F.log_softmax(teacher.tanh(), dim=2)
    divergence = (p.exp() * (p - q)).sum(2)
    return divergence.sum() if rows is None else divergence.masked_fill(~rows, 0).sum()


class Head(nn.Module):
    """A linear map and a batch norm in inference mode, frozen: all of it is buffers, so that no mode changes it."""

    weight: Tensor
    gain: Tensor
    shift: Tensor
    mean: Tensor
    variance: Tensor

    def __init__(self, weight: Float[Tensor, "o c"], norm: nn.BatchNorm1d) -> None:
        super().__init__()
        self.eps = norm.eps
        running = {"mean": norm.running_mean, "variance": norm.running_var}
        for name, value in {"weight": weight, "gain": norm.weight, "shift": norm.bias, **running}.items():
            assert value is not None  # the running statistics of a norm that keeps none
            self.register_buffer(name, value.detach().clone())

    def forward(self, x: Float[Tensor, "n c"]) -> Float[Tensor, "n o"]:
        weight, mean, variance, gain, shift = (
            buffer.to(x.dtype) for buffer in (self.weight, self.mean, self.variance, self.gain, self.shift)
        )
        return F.batch_norm(F.linear(x, weight), mean, variance, gain, shift, eps=self.eps)


class HeadPair(nn.Module):
    """The frozen heads of one pair of layers: `rows` reads the current layer, `columns` the previous one."""

    def __init__(self, estimator: Estimator) -> None:
        super().__init__()
        self.heads = estimator.heads
        self.rows = Head(estimator.rows.weight, estimator.row_norm)
        self.columns = Head(estimator.columns.weight, estimator.column_norm)

    def forward(
        self, current: Float[Tensor, "n c"], previous: Float[Tensor, "n d"]
    ) -> Float[Tensor, "h n n"]:
        n = len(current)
        return graph(
            self.rows(current).view(n, -1, self.heads), self.columns(previous).view(n, -1, self.heads)
        )


def graph_loss(vectors: Aligned, pairs: nn.ModuleList) -> Float[Tensor, ""]:
    """`graph_divergence` summed over adjacent layers; images without a direction give no row."""
    total = vectors.student[0].new_zeros(())
    for at, pair in enumerate(pairs, start=1):
        student = pair(vectors.student[at], vectors.student[at - 1])
        teacher = pair(vectors.teacher[at], vectors.teacher[at - 1])
        total = total + graph_divergence(student, teacher, vectors.alive[at] & vectors.alive[at - 1])
    return total


class MHGD(KDLoss):
    """Graphs among the samples of a batch, from one layer to the next, follow the teacher's.

    Source: Lee and Song, BMVC 2019 (graph-based KD by multi-head attention); eq. 5 of the role-wise paper. Recommended
    are 8 heads trained for 40 epochs on the teacher, as in the reference code; the role-wise authors' code builds that
    training but never runs it, hence `release()`: 4 random, frozen heads.

    `prepare` makes and trains the heads; afterwards they are buffers, part of `state_dict()`, and `restore` (or
    `load_state_dict`) gives them to a fresh object. Without training they are drawn in `build`, or at first use.

    Args:
        heads: graphs per pair of layers.
        trained: True trains the heads on the teacher; False leaves them random.
        norm_eps, norm_momentum: settings of the heads' batch norm; momentum 0.1 is a decay of 0.9.
        method, doubled_gradient: see `KDSVD`.
    Shape:
        at least 2 feature maps (n, c, h, w); c must agree between the networks; returns ().
    Raises:
        InputError: not prepared, heads of other sizes, other numbers of channels, fewer than 2 maps, or what
            `check_pair` refuses.
    """

    decay = True
    clip = True

    def __init__(
        self,
        taps: Sequence[str] | None = None,
        teacher_taps: Sequence[str] | None = None,
        *,
        heads: int = 8,
        trained: bool = True,
        norm_eps: float = 1e-5,
        norm_momentum: float = 0.1,
        method: str | None = None,
        doubled_gradient: bool = False,
    ) -> None:
        super().__init__(taps, teacher_taps)
        self.heads = check_integer("heads", heads, 1)
        self.trained = trained
        self.norm_eps, self.norm_momentum = norm_eps, norm_momentum
        self.settings = check_settings(method, doubled_gradient)
        self.pairs = nn.ModuleList()

    @property
    def prepared(self) -> bool:
        return not self.trained or len(self.pairs) > 0

    def build(self, student: Outputs, teacher: Outputs, *, generator: torch.Generator, images: int) -> None:
        if not self.trained:
            self._freeze(self._estimators([f.shape[1] for f in teacher.features], generator))

    def prepare(self, teacher: nn.Module, split: TrainingImages, *, epochs: int = 40, seed: int = 0) -> None:
        """Trains the heads to predict the teacher's directions of a layer from those of the layer before.

        Images are cropped and mirrored; SGD with Nesterov momentum 0.9 and learning rate 0.1, batches of 128.

        Raises:
            InputError: a teacher in training mode, unknown taps, fewer than 2 images.
        """
        if not self.trained:
            return
        check_integer("epochs", epochs, 1)
        check_teacher(teacher)
        if len(split.images) < 2:
            raise InputError(f"MHGD's heads need at least 2 training images, got {len(split.images)}.")
        taps = tap_names(teacher, self.teacher_taps, "teacher", kind=self.tap_kind)
        device = next(teacher.parameters()).device
        noise = torch_generator(seed, "mhgd-heads")
        estimators: list[Estimator] = []
        optimizer: torch.optim.Optimizer | None = None
        watch = preparation()
        for epoch in range(watch.begun, epochs):
            stream = training_batches(split, batch=128, seed=seed, stream="mhgd", epoch=epoch, device=device)
            for images in stream:
                with torch.no_grad():
                    features = collect(teacher, images, taps, "teacher").float().features
                if optimizer is None:
                    estimators = self._estimators([f.shape[1] for f in features], noise)
                    optimizer = _optimizer(estimators, device)
                    watch.restore(estimators, optimizer, noise)
                vectors = leading_vectors(features, self.settings)
                loss = torch.stack(
                    [e.loss(b, a, noise) for e, (a, b) in zip(estimators, pairwise(vectors), strict=True)]
                ).sum()
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            if optimizer is not None and epoch + 1 < epochs:
                watch.end_epoch(epoch + 1, estimators, optimizer, noise)
        self._freeze(estimators)

    def forward(self, student: Outputs, teacher: Outputs) -> Float[Tensor, ""]:
        return self.from_vectors(aligned_vectors(student, teacher, self.settings))

    def from_vectors(self, vectors: Aligned) -> Float[Tensor, ""]:
        """The loss from directions that were already computed."""
        if not self.prepared:
            raise InputError(
                "MHGD's heads are not trained yet: call prepare(teacher, split) first, as `search` and `train` do, "
                "or take .release(), whose heads need none."
            )
        channels = [v.shape[1] for v in vectors.teacher]
        if not len(self.pairs):
            self._freeze(self._estimators(channels, torch_generator(0, "mhgd-heads")))
            self.to(vectors.teacher[0].device)
        made_for = self._channels()
        if channels != made_for:
            raise InputError(
                f"MHGD's heads were made for feature maps of {made_for} channels, got {channels}: "
                f"prepare them on this teacher, with these taps."
            )
        return graph_loss(vectors, self.pairs)

    def _estimators(self, channels: Sequence[int], generator: torch.Generator) -> list[Estimator]:
        if len(channels) < 2:
            raise InputError(
                f"MHGD compares layers: at least 2 feature maps are needed, got {len(channels)}."
            )
        return [
            Estimator(c, d, self.heads, generator=generator, eps=self.norm_eps, momentum=self.norm_momentum)
            for d, c in pairwise(channels)
        ]

    def _freeze(self, estimators: Sequence[Estimator]) -> None:
        self.pairs = nn.ModuleList(HeadPair(estimator) for estimator in estimators)

    def _channels(self) -> list[int]:
        """The feature maps' numbers of channels that the heads are made for."""
        first = self.pairs[0].get_submodule("columns").get_buffer("weight").shape[1]
        return [first, *(pair.get_submodule("rows").get_buffer("weight").shape[1] for pair in self.pairs)]

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        """Makes heads of the sizes found in the state: they depend on the teacher, not on the arguments."""
        channels: list[int] = []
        while (key := f"{prefix}pairs.{max(len(channels) - 1, 0)}.rows.weight") in state_dict:
            if not channels:
                channels.append(state_dict[f"{prefix}pairs.0.columns.weight"].shape[1])
            channels.append(state_dict[key].shape[1])
        if channels and (not len(self.pairs) or self._channels() != channels):
            self._freeze(self._estimators(channels, torch_generator(0, "mhgd-heads")))
        super()._load_from_state_dict(state_dict, prefix, *rest)

    @classmethod
    def release(cls, **arguments: Any) -> "MHGD":
        """4 random, frozen heads whose batch norm multiplies by 1 / sqrt(1.001); the authors' gradient.

        That gradient needs `eigh`, which PyTorch computes on a GPU matrix by matrix, with the host waiting: images x
        layers of them a step, seconds in PyTorch 2.11. On a GPU the recommended form is the one to train with.
        """
        given = {
            "heads": 4,
            "trained": False,
            "norm_eps": 1e-3,
            "norm_momentum": 0.01,
            "doubled_gradient": True,
        }
        return cls(**{**given, **arguments})


def _optimizer(estimators: Sequence[Estimator], device: torch.device) -> torch.optim.Optimizer:
    """SGD whose decay is 5e-4 times the sum of squares (no 1/2) of every parameter, as in the reference code."""
    for estimator in estimators:
        estimator.to(device)
    parameters = [p for estimator in estimators for p in estimator.parameters()]
    return torch.optim.SGD(parameters, lr=0.1, weight_decay=2 * 5e-4, momentum=0.9, nesterov=True)
