"""Data-parallel training under `torchrun`: several processes train one network as one process would.

    torchrun --nproc-per-node 2 -m rolewise.cli train --role student --out runs/two ...

Each process takes its part of every global batch; order and augmentation of the images are functions of their ids, so
all processes together see what one would. Gradients are averaged before they are clipped or used, batch normalization
takes the statistics of the global batch, metrics and evaluations are summed over the processes: up to rounding the
result does not depend on how many there are. `docs/parallel.md` lists what does.
"""

import atexit
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from rolewise.errors import InputError, RunError, first_line
from rolewise.trainer.synchronized import synchronized

# While the first process prepares a loss the others wait, for hours maybe. One that dies is noticed at once.
_PATIENCE = timedelta(days=7)
_group: "Group | None" = None


def launched() -> bool:
    """Whether `torchrun` started this process as one of several."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def join(device: str) -> "Group | None":
    """This process's place among those that `torchrun` started; None without `torchrun`.

    Args:
        device: "cpu" (the processes communicate over gloo) or "cuda" (NCCL; each takes the GPU of its local rank).
    Raises:
        InputError: no such device for this process.
    """
    global _group
    if not launched():
        return None
    if _group is None:
        kind = (
            "cuda" if device.startswith("cuda") or (device == "auto" and torch.cuda.is_available()) else "cpu"
        )
        local = int(os.environ["LOCAL_RANK"])
        if kind == "cuda":
            if local >= torch.cuda.device_count():
                raise InputError(
                    f"torchrun started {os.environ['LOCAL_WORLD_SIZE']} processes here, but PyTorch sees "
                    f"{torch.cuda.device_count()} CUDA devices: take that as --nproc-per-node, or --device cpu."
                )
            torch.cuda.set_device(local)
        if not dist.is_initialized():
            dist.init_process_group("nccl" if kind == "cuda" else "gloo", timeout=_PATIENCE)
            atexit.register(_leave)
        _group = Group(torch.device(kind, local) if kind == "cuda" else torch.device("cpu"))
    return _group


def _leave() -> None:
    """Ends this process's communication: pending messages first, then the threads that carry them."""
    global _group
    if _group is not None:
        _group.finish_vote()
    _group = None
    dist.destroy_process_group()


class Group:
    """The processes of one training. Every method is called by all of them, in the same order.

    Attributes:
        rank: this process's number; the first one, 0, is the one that writes.
        size: number of processes.
        local_size: number of them on this machine.
        device: device on which this one trains.
    """

    def __init__(self, device: torch.device) -> None:
        self.rank, self.size, self.device = dist.get_rank(), dist.get_world_size(), device
        self.local_size = int(os.environ.get("LOCAL_WORLD_SIZE", self.size))
        # Control messages use their own gloo group, so that they never block on the GPU or interleave with gradients.
        self._hosts = dist.new_group(backend="gloo", timeout=_PATIENCE)
        self._vote: tuple[Any, Tensor] | None = None

    def share(self, batch_size: int) -> slice:
        """This process's part of a global batch.

        Raises:
            InputError: the batch cannot be divided evenly.
        """
        if batch_size % self.size or batch_size // self.size < 2:
            raise InputError(
                f"`batch_size` is {batch_size}, which {self.size} processes cannot share evenly with at least 2 "
                f"images each: choose a multiple of {self.size}, at least {2 * self.size}."
            )
        part = batch_size // self.size
        return slice(self.rank * part, (self.rank + 1) * part)

    def all_reduce_mean(self, gradients: Sequence[Tensor | None]) -> Callable[[], list[Tensor | None]]:
        """Begins to average gradients over the processes; the function that it returns waits for the result.

        All are sent as one tensor. Each comes back in the memory format in which it went.
        """
        present = [gradient for gradient in gradients if gradient is not None]
        if not present:
            return lambda: list(gradients)
        dense = [_dense(gradient) for gradient in present]
        flat = torch.cat([gradient.as_strided((gradient.numel(),), (1,)) for gradient in dense])
        flat.div_(self.size)
        work = dist.all_reduce(flat, async_op=True)

        def result() -> list[Tensor | None]:
            _wait(work)
            sizes = [gradient.numel() for gradient in dense]
            parts = iter(zip(torch.split(flat, sizes), dense, strict=True))

            def restored() -> Tensor:
                part, like = next(parts)
                return part.as_strided(like.shape, like.stride(), part.storage_offset())

            return [None if gradient is None else restored() for gradient in gradients]

        return result

    def mean_(self, tensor: Tensor) -> Tensor:
        """The mean over the processes, in place."""
        _wait(dist.all_reduce(tensor.div_(self.size), async_op=True))
        return tensor

    def sum_(self, tensor: Tensor) -> Tensor:
        """The sum over the processes, in place."""
        _wait(dist.all_reduce(tensor, async_op=True))
        return tensor

    def broadcast_(self, tensors: Sequence[Tensor]) -> None:
        """Every process takes the first one's values, in place."""
        for tensor in tensors:
            dense = tensor.detach().contiguous()
            _wait(dist.broadcast(dense, 0, async_op=True))
            tensor.detach().copy_(dense)

    def all_reduce_stop(self, stop: bool) -> bool:
        """Whether any process wanted to stop at the previous call.

        One call behind, so that the answer is there when it is asked for. All get the same answers, so all stop after
        the same batch.
        """
        before, self._vote = self._vote, None
        ballot = torch.tensor([int(stop)])
        work = dist.all_reduce(ballot, dist.ReduceOp.MAX, group=self._hosts, async_op=True)
        self._vote = work, ballot
        if before is None:
            return False
        _wait(before[0])
        return bool(before[1].item())

    def finish_vote(self) -> None:
        """Waits briefly for the answer to the last vote, which is never read."""
        before, self._vote = self._vote, None
        if before is not None:
            with suppress(RuntimeError):
                before[0].wait(timedelta(seconds=5))

    def barrier(self) -> None:
        """Waits until all processes have called it."""
        _wait(dist.all_reduce(torch.zeros(1), group=self._hosts, async_op=True))

    def broadcast_object(self, value: Any = None) -> Any:
        """The first process's value, any JSON; the arguments of the others are ignored."""
        text = json.dumps(value).encode() if self.rank == 0 else b""
        length = torch.tensor([len(text)])
        _wait(dist.broadcast(length, 0, group=self._hosts, async_op=True))
        content = torch.zeros(int(length), dtype=torch.uint8)
        if self.rank == 0:
            content.copy_(torch.frombuffer(bytearray(text), dtype=torch.uint8))
        _wait(dist.broadcast(content, 0, group=self._hosts, async_op=True))
        return json.loads(content.numpy().tobytes())

    def check_same(self, what: str, *numbers: int) -> None:
        """Checks that all processes have the same numbers.

        Raises:
            RunError: the numbers differ.
        """
        mine = torch.tensor(numbers)
        low, high = mine.clone(), mine.clone()
        for tensor, how in ((low, dist.ReduceOp.MIN), (high, dist.ReduceOp.MAX)):
            _wait(dist.all_reduce(tensor, how, group=self._hosts, async_op=True))
        if not torch.equal(low, high):
            raise RunError(
                f"The processes are not at the same {what}: {low.tolist()} to {high.tolist()}. All of them "
                "must see the run directory: put it where every machine can read it."
            )

    @contextmanager
    def rank_zero_first(self) -> Iterator[None]:
        """The first process runs the block before the others do, so that they find what it wrote."""
        if self.rank != 0:
            self.barrier()
        yield
        if self.rank == 0:
            self.barrier()

    def batch_norms(self, modules: Sequence[nn.Module]) -> AbstractContextManager[None]:
        """While the context lasts, batch normalization in training mode takes the global batch's statistics."""
        return synchronized(modules, self.mean_, self.size)


def _dense(gradient: Tensor) -> Tensor:
    """The gradient without gaps or overlaps, so that its memory can be sent as it is."""
    gradient = gradient.detach()
    strides = sorted(
        (stride, size) for size, stride in zip(gradient.shape, gradient.stride(), strict=True) if size > 1
    )
    expected = 1
    for stride, size in strides:
        if stride != expected:
            return gradient.contiguous()
        expected *= size
    return gradient


def _wait(work: Any) -> None:
    """Waits for what was sent.

    Raises:
        RunError: another process has ended.
    """
    try:
        work.wait()
    except RuntimeError as error:
        raise RunError(
            f"Another process of this training has ended ({first_line(error)}). Start all of them again with --resume."
        ) from error
