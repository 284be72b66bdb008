"""Deep mutual learning as first published: student and teacher train together, from scratch."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from rolewise import kd
from rolewise._roles import STUDENT
from rolewise.kd.base import Outputs, TrainingImages
from rolewise.objective.base import Labels, Objective, Placement, correct, factor
from rolewise.objective.moments import load_optimizer, optimizer_tensors


class MutualLearning(Objective):
    """Per batch first a step of the peer, then one of the student, each on CE + weight * L_DML, both in training mode.

    Source: Zhang et al., CVPR 2018, in the symmetric form of the role-wise authors' code, which calls the peer
    "teacher" and trains it from scratch with the student; the paper's own tables use a fixed teacher: `Distill(teacher,
    DML())`.

    Args:
        peer: network that is trained with the student; this objective trains its own copy.
        weight: factor of the KD term, for both, no unit.
        lr: learning rate of the peer's Adam (eps 1e-5), constant.
        weight_decay: factor of the L2 term of the peer's Adam.
    """

    metrics: tuple[str, ...] = ("loss", "correct", "task", "kd", "peer_correct")
    role: str | None = STUDENT
    made_by_bind: tuple[str, ...] = ("_placement", "_peer", "_optimizer")

    def __init__(
        self, peer: nn.Module, weight: float = 1.0, *, lr: float = 1e-3, weight_decay: float = 1e-5
    ) -> None:
        self.peer = peer
        self.weight = factor("weight", weight)
        self.lr, self.weight_decay = factor("lr", lr), factor("weight_decay", weight_decay)
        self.loss = kd.LOSSES["dml"]()

    def bind(self, model: nn.Module, split: TrainingImages, placement: Placement, *, seed: int) -> None:
        self._placement = placement
        self._peer = placement.place(copy.deepcopy(self.peer)).train()
        # On a GPU the step can be recorded: the step counter and the learning rate are tensors there.
        on_gpu = placement.device.type == "cuda"
        self._optimizer = torch.optim.Adam(
            self._peer.parameters(),
            torch.tensor(self.lr, device=placement.device) if on_gpu else self.lr,
            eps=1e-5,
            weight_decay=self.weight_decay,
            fused=True,
            capturable=on_gpu,
        )

    def backward(
        self,
        model: nn.Module,
        images: Float[Tensor, "n c h w"],
        labels: Labels,
        ids: Int64[Tensor, " n"],
    ) -> Float[Tensor, " m"]:
        with self._placement.autocast():
            logits = model(images)
            peer_logits = self._peer(images)
        student, peer = Outputs(logits.float()), Outputs(peer_logits.float())
        self._optimizer.zero_grad(set_to_none=True)
        peer_task = self.task(peer.logits, labels)
        peer_total = peer_task + self.weight * self.loss(peer, student.detach())
        torch.autograd.backward(peer_total)
        self._optimizer.step()
        with torch.no_grad(), self._placement.autocast(), _kept_buffers(self._peer):
            after = Outputs(self._peer(images).float())  # the student follows the peer as it is now
        task = self.task(student.logits, labels)
        distance = self.loss(student, after)
        total = task + self.weight * distance
        torch.autograd.backward(total)
        counts = correct(logits, labels), correct(after.logits, labels)
        return torch.stack((total.detach(), counts[0], task.detach(), distance.detach(), counts[1]))

    def state(self) -> dict[str, Tensor]:
        parts = {"peer": self._peer.state_dict(), "optimizer": optimizer_tensors(self._optimizer)}
        return {f"{part}.{name}": tensor for part, named in parts.items() for name, tensor in named.items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        def part(start: str) -> dict[str, Tensor]:
            return {name.removeprefix(start): one for name, one in state.items() if name.startswith(start)}

        self._peer.load_state_dict(part("peer."))
        # In place: moments of zero are as good as none, and stay where a recorded step reads them.
        load_optimizer(self._optimizer, part("optimizer."), in_place=True)


@contextmanager
def _kept_buffers(model: nn.Module) -> Iterator[None]:
    """A second pass over the same batch must not move batch normalization's averages a second time."""
    kept = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        for buffer, value in kept:
            buffer.copy_(value)
