"""Faults that are planted: each is what the watch must see, with its line."""

from fake_cuda import fake_cuda  # isort: skip - before torch
import torch


def device_mismatch(x):
    return x + torch.ones(4)


def value_read(x):
    return float(x.detach().sum())


def item(x):
    return x[0, 0].item()


def truth(x):
    return bool((x > 0).any())


def listed(x):
    return x.sum(0).tolist()


def shape_from_data(x):
    return x[x > 0]


def pageable_copy(x):
    return torch.ones(4).to("cuda", non_blocking=True) + x


def blocking_copy(x):
    return torch.ones(4).pin_memory().to("cuda") + x


def indices_on_the_cpu(x):
    return x[torch.tensor([0, 2])]


def copy_to_the_cpu(x):
    return x.detach().cpu()


@torch.inference_mode()
def in_inference_mode(x):
    return torch.ones(4).to("cuda").sum().item()


def slow_decomposition(x):
    return torch.linalg.eigh(x @ x.mT)


def strides_apart(x):
    weight = torch.nn.Parameter(torch.ones(4, 3, 5, 5, device="cuda"))
    weight.grad = torch.ones(4, 3, 5, 5, device="cuda").to(memory_format=torch.channels_last)
    torch.optim.SGD([weight], 0.1, momentum=0.9, fused=True).step()


FAULTS = (
    device_mismatch,
    value_read,
    item,
    truth,
    listed,
    shape_from_data,
    pageable_copy,
    blocking_copy,
    indices_on_the_cpu,
    copy_to_the_cpu,
    in_inference_mode,
    slow_decomposition,
    strides_apart,
)


def sound(x):
    """Nothing to be seen: pinned memory in both directions, scalars, a backward pass, a recorded step."""
    y = x * torch.ones(4).pin_memory().to("cuda", non_blocking=True) * torch.tensor(2.0)
    y.sum().backward()
    assert x.grad.device.type == "cuda"
    torch.empty(3, 4, pin_memory=True).copy_(y.detach(), non_blocking=True)
    with torch.cuda.graph(torch.cuda.CUDAGraph()):
        (x.detach() * 2).relu_()


def planted():
    """By name: what the watch saw, or the error."""
    found = {}
    for fault in (*FAULTS, sound):
        with fake_cuda() as watch:
            x = torch.ones(3, 4, device="cuda", requires_grad=True)
            error = None
            with watch.phase("step"):
                try:
                    fault(x)
                except Exception as raised:
                    error = type(raised).__name__
        found[fault.__name__] = {"notes": dict(watch.notes["step"]), "error": error}
    found["while recording"] = {}
    for fault in (value_read, pageable_copy, copy_to_the_cpu):
        with fake_cuda():
            x = torch.ones(3, 4, device="cuda")
            try:
                with torch.cuda.graph(torch.cuda.CUDAGraph()):
                    fault(x)
            except RuntimeError as raised:
                found["while recording"][fault.__name__] = str(raised)
    return found
