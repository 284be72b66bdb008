"""Contrastive representation distillation."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from rolewise.errors import InputError, check_integer
from rolewise.kd.base import KDLoss, Outputs
from rolewise.kd.checks import Shapes, check_built, check_features, check_positive, ids_of, shapes_of
from rolewise.kd.layers import linear, pooled, unit

_NEVER = torch.iinfo(torch.int64).max  # the id of a row that no image has


class CRD(KDLoss):
    """The student's embedding of an image is contrasted with the teacher's embeddings of other classes' images.

    Source: Tian et al., ICLR 2020, noise-contrastive estimation with memory banks (eq. 18 by the authors' code),
    and the other way round with the teacher as the anchor. For an anchor a, the other network's remembered
    embedding b of the same image and those b_1..b_m of m images of other classes, all of length 1:

        h(a, b) = exp(a . b / tau) / (exp(a . b / tau) + m Z)
        L = mean_images [ -log h(a, b) - sum_j log(1 - h(a, b_j)) ], for both directions

    Z is the mean of exp(a . b / tau) over the first batch, one per direction, as in the authors' code (which
    adds 1e-7 to the denominator). After a step in training mode the rows of the batch become
    normalize(momentum * row + (1 - momentum) * embedding). Weight 0.8, m 16384, tau 0.07, momentum 0.5, size 128
    are the authors' values.

    Our choices: negatives are drawn uniformly, with repetition, from the images of other classes seen so far
    (the authors draw from all, of which the rows not seen yet hold noise); m is at most the number of images
    less 1. Without `labels` every image is its own class. A row is given to an image when it is first seen, so
    ids need only be distinct numbers >= 0. Draws come from a counter: they depend on the seed from `build`, the
    step and the place in the batch, all in the state, so a resumed training draws the same.

    Layers: the last, averaged over positions, then one linear layer per network, trained with the student.
    Reads `ids` and `labels` of the student's outputs, else of the teacher's.

    Args:
        size: length of the embeddings, >= 1.
        negatives: m, >= 1.
        temperature: tau, > 0, no unit.
        momentum: share of the old row, 0 to below 1.
    Shape:
        maps (n, c, h, w), of any size on either side; returns ().
    Raises:
        InputError: student and teacher do not fit, ids are missing, or `build` has not been called.
    """

    weight = 0.8
    needs_labels = True
    tap_kind = "embedding"

    seed: Tensor
    step: Tensor
    log_mean: Tensor
    student_rows: Tensor
    teacher_rows: Tensor
    row_ids: Tensor
    row_order: Tensor
    row_classes: Tensor

    def __init__(
        self,
        taps: Sequence[str] | None = None,
        teacher_taps: Sequence[str] | None = None,
        *,
        size: int = 128,
        negatives: int = 16384,
        temperature: float = 0.07,
        momentum: float = 0.5,
    ) -> None:
        super().__init__(taps, teacher_taps)
        self.size = check_integer("size", size, 1)
        self.negatives = check_integer("negatives", negatives, 1)
        self.temperature = check_positive("temperature", temperature)
        if not 0 <= momentum < 1:
            raise InputError(f"`momentum` must be at least 0 and below 1, got {momentum!r}.")
        self.momentum = momentum
        self.student_embedding: nn.Module = nn.Identity()
        self.teacher_embedding: nn.Module = nn.Identity()
        self._shapes: Shapes | None = None

    def build(self, student: Outputs, teacher: Outputs, *, generator: torch.Generator, images: int) -> None:
        check_features("CRD", student, teacher)
        check_integer("images", images, 2)
        self._shapes = shapes_of(student, teacher)
        (channels, *_), (teacher_channels, *_) = self._shapes[-1]
        self.student_embedding = linear(channels, self.size, generator)
        self.teacher_embedding = linear(teacher_channels, self.size, generator)
        bound = math.sqrt(3 / self.size)  # rows of length about 1
        place = generator.device
        for name in ("student_rows", "teacher_rows"):
            rows = torch.empty(images, self.size, device=place).uniform_(-bound, bound, generator=generator)
            self.register_buffer(name, rows)
        seed = torch.randint(2**62, (), generator=generator, device=place)
        self.register_buffer("seed", seed)
        self.register_buffer("step", torch.zeros_like(seed))
        self.register_buffer("log_mean", torch.zeros(2, device=place))
        # The ids seen, ascending, the rows that belong to them, and the class of each row (-1: a free row). Rows
        # are given out in turn.
        self.register_buffer("row_ids", torch.full((images,), _NEVER, device=place))
        self.register_buffer("row_order", torch.zeros(images, dtype=torch.int64, device=place))
        self.register_buffer("row_classes", torch.full((images,), -1, device=place))
        self.to(student.features[-1].device, student.features[-1].dtype)

    def forward(self, student: Outputs, teacher: Outputs) -> Float[Tensor, ""]:
        check_features("CRD", student, teacher)
        check_built("CRD", self._shapes, student, teacher)
        ids = ids_of("CRD", student, teacher)
        labels = student.labels if student.labels is not None else teacher.labels
        s = unit(self.student_embedding(pooled(student.features[-1])), dim=1)
        t = unit(self.teacher_embedding(pooled(teacher.features[-1])), dim=1)
        with torch.no_grad():
            rows = self._rows(ids, ids if labels is None else labels)
            others, exist = self._draw(rows)
        index = torch.cat((rows.unsqueeze(1), others), 1)
        # The banks change below, before the backward pass reads them: it gets copies.
        loss = self._contrast(s, self.teacher_rows.clone(), index, exist, 0)
        loss = loss + self._contrast(t, self.student_rows.clone(), index, exist, 1)
        if self.training:
            with torch.no_grad():
                self._remember(self.student_rows, rows, s)
                self._remember(self.teacher_rows, rows, t)
                self.step += 1
        return loss

    def _contrast(
        self,
        anchors: Float[Tensor, "n d"],
        bank: Float[Tensor, "r d"],
        index: Int64[Tensor, "n m"],
        exist: Float[Tensor, "n 1"],
        direction: int,
    ) -> Float[Tensor, ""]:
        """The loss of one direction; column 0 of `index` is the image's own row, the others are negatives."""
        # All inner products at once: cheaper than to gather n x m rows of the bank.
        scores = (anchors @ bank.T / self.temperature).gather(1, index)
        m = index.shape[1] - 1
        with torch.no_grad():
            weights = torch.cat((torch.ones_like(exist), exist.expand(-1, m)), 1)
            mean = (scores + weights.log()).flatten().logsumexp(0) - weights.sum().log()
            log_mean = torch.where(self.step == 0, mean, self.log_mean[direction])
            if self.training:
                self.log_mean[direction] = log_mean
        scores = scores - log_mean - math.log(m)
        return (F.softplus(-scores[:, 0]) + (F.softplus(scores[:, 1:]) * exist).sum(1)).mean()

    def _rows(self, ids: Int64[Tensor, " n"], classes: Int64[Tensor, " n"]) -> Int64[Tensor, " n"]:
        """The rows of these images; an image not seen before gets the next free one. Fixed shapes throughout."""
        last = len(self.row_ids) - 1
        place = torch.searchsorted(self.row_ids, ids).clamp_max(last)
        new = self.row_ids[place] != ids
        free = (self.row_ids != _NEVER).sum() + new.cumsum(0) - 1
        rows = torch.where(new, free.clamp_max(last), self.row_order[place])
        # Sorting by id keeps the known ones in front; the rows beside `_NEVER` mean nothing.
        all_ids = torch.cat((self.row_ids, torch.where(new, ids, _NEVER)))
        all_rows = torch.cat((self.row_order, rows))
        order = torch.sort(all_ids, stable=True).indices[: last + 1]
        self.row_ids.copy_(all_ids[order])
        self.row_order.copy_(all_rows[order])
        self.row_classes.index_copy_(0, rows, classes)
        return rows

    def _draw(self, rows: Int64[Tensor, " n"]) -> tuple[Int64[Tensor, "n m"], Float[Tensor, "n 1"]]:
        """Rows of images of other classes, uniform, and whether there are any."""
        by_class, order = torch.sort(self.row_classes, stable=True)
        own = self.row_classes[rows]
        start = torch.searchsorted(by_class, own).unsqueeze(1)
        stop = torch.searchsorted(by_class, own, right=True).unsqueeze(1)
        unseen = (self.row_classes < 0).sum()
        count = len(order) - unseen - (stop - start)
        m = min(self.negatives, len(order) - 1)
        # The seen rows of other classes lie in [unseen, start) and [stop, end).
        place = unseen + (_uniform(self.seed, self.step, len(rows), m) * count >> 31)
        place = torch.where(place >= start, place + stop - start, place).clamp_max(len(order) - 1)
        return order[place], (count > 0).to(self.student_rows.dtype)

    def _remember(self, bank: Tensor, rows: Int64[Tensor, " n"], embeddings: Float[Tensor, "n d"]) -> None:
        mixed = self.momentum * bank[rows] + (1 - self.momentum) * embeddings
        bank.index_copy_(0, rows, unit(mixed, dim=1))


def _uniform(
    seed: Int64[Tensor, ""], step: Int64[Tensor, ""], rows: int, columns: int
) -> Int64[Tensor, "r c"]:
    """Integers uniform over [0, 2^31), a function of (seed, step, row, column).

    The mixing function is that of SplitMix64 (Steele et al., OOPSLA 2014).
    """
    row = torch.arange(rows, device=seed.device).unsqueeze(1)
    column = torch.arange(columns, device=seed.device)
    return _logical_shift(_mix(_mix(_mix(seed + step) + row) + column), 33)


def _mix(x: Int64[Tensor, "..."]) -> Int64[Tensor, "..."]:
    """A bijection of 64-bit integers whose values look independent; products wrap around."""
    x = x + _signed(0x9E3779B97F4A7C15)
    x = (x ^ _logical_shift(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _logical_shift(x, 27)) * _signed(0x94D049BB133111EB)
    return x ^ _logical_shift(x, 31)


def _logical_shift(x: Int64[Tensor, "..."], bits: int) -> Int64[Tensor, "..."]:
    """Shifts zeros in; `>>` of a negative number would shift ones in."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _signed(constant: int) -> int:
    return constant - (1 << 64) if constant >= 1 << 63 else constant
