"""Subspace iteration from batched products alone: Jacobi, layers of all sizes, no wait for the device, CUDA graphs."""

import paper_samples as samples
import pytest
import torch
from paper_samples import grams
from torch.utils._python_dispatch import TorchDispatchMode

from rolewise.kd import KDSVD, LOSSES, MHGD, Outputs
from rolewise.kd.eigen import Exact
from rolewise.kd.subspace import Products, _pairings, jacobi
from rolewise.trainer.recorded import GraphRecorder


@pytest.mark.parametrize("p", [2, 4, 6, 12])
def test_every_two_columns_meet_once_in_a_sweep(p: int) -> None:
    rounds = _pairings(p)
    assert len(rounds) == p - 1
    met = [frozenset(order[i : i + 2]) for order in rounds for i in range(0, p, 2)]
    assert len(set(met)) == p * (p - 1) // 2 == len(met)
    assert all(len(pair) == 2 for pair in met)


@pytest.mark.parametrize("p", [2, 4, 12])
def test_jacobi_equals_lapack(p: int) -> None:
    g = torch.Generator().manual_seed(0)
    matrix = torch.randn(50, p, p, generator=g, dtype=torch.float64)
    matrix = matrix + matrix.mT
    matrix[0] = 0
    matrix[1] = torch.eye(p)
    matrix[2] = torch.ones(p, p)
    values, vectors = jacobi(
        matrix, sweeps=7
    )  # full matrices; three will do for what subspace iteration leaves
    torch.testing.assert_close(values.sort(1)[0], torch.linalg.eigvalsh(matrix), rtol=0, atol=1e-9)
    torch.testing.assert_close(vectors * values.unsqueeze(1), matrix @ vectors, rtol=0, atol=1e-8)
    torch.testing.assert_close(vectors.mT @ vectors, torch.eye(p, dtype=torch.float64).expand(50, p, p))


def test_layers_of_all_sizes_are_decomposed_together() -> None:
    sizes = (2, 3, 16, 20)
    student = [grams(3, m, lambda i: 0.3**i, seed=m) for m in sizes]
    teacher = [grams(3, m, lambda i: 0.3**i, seed=m + 50) for m in sizes]
    products, exact = Products(student, teacher), Exact(student, teacher, certified=False)
    for a, b in zip(products.leading(), exact.leading(), strict=True):
        torch.testing.assert_close(a * (a * b).sum(1, keepdim=True).sign(), b)
    g = torch.Generator().manual_seed(1)
    probes, rhs = ([torch.rand(3, m, generator=g, dtype=torch.float64) for m in sizes] for _ in range(2))
    wide = [True, False, True, False]
    chosen = zip(products.choose(probes, wide, 4), exact.choose(probes, wide, 4), strict=True)
    for a, b in chosen:
        torch.testing.assert_close(a.cosine.abs(), b.cosine.abs())
        torch.testing.assert_close(a.value, b.value)
    for a, b in zip(products.solve(rhs), exact.solve(rhs), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


class _Watch(TorchDispatchMode):
    """Notes every operation, and refuses those that wait for the device or loop over matrices there.

    Cholesky's factors of small matrices and the solves with them are batched and do not wait.
    """

    REFUSED = (
        "_local_scalar_dense",
        "nonzero",
        "aten.index.",
        "linalg",
        "svd",
        "eig",
        "cholesky",
        "solve",
        "_qr",
        "lu_",
    )

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        name = str(func)
        self.names.append(name)
        batched = ("vector_norm", "linalg_cholesky_ex", "linalg_solve_triangular")
        if any(word in name for word in self.REFUSED) and not any(word in name for word in batched):
            raise AssertionError(f"{name} is no batched product")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("loss", [KDSVD(method="products"), MHGD(method="products", trained=False)])
def test_products_never_wait_for_the_device(loss: KDSVD | MHGD) -> None:
    student, teacher = samples.network_like(1, n=4, noise=0.3), samples.network_like(1, n=4)
    loss(student, teacher)  # heads are made at first use
    student = samples.cast(student, torch.float32, requires_grad=True)
    with _Watch() as watch:
        loss(student, teacher).backward()
    assert sum("bmm" in name for name in watch.names) > 100
    assert all(f.grad is not None for f in student.features)


def test_the_watch_refuses_the_exact_way() -> None:
    student, teacher = samples.network_like(1, n=4), samples.network_like(2, n=4)
    with pytest.raises(AssertionError, match="is no batched product"), _Watch():
        KDSVD(method="eigh")(student, teacher)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", ["kd-svd", "mhgd"])
def test_a_cuda_graph_holds_it(kind: str) -> None:
    loss = KDSVD() if kind == "kd-svd" else MHGD(trained=False)
    first, second = samples.network_like(1, noise=0.3), samples.network_like(2, noise=0.3)
    teacher = samples.network_like(1)
    place = {"device": "cuda"}
    student = Outputs(first.logits.to(**place), tuple(f.to(**place).requires_grad_() for f in first.features))
    fixed = Outputs(teacher.logits.to(**place), tuple(f.to(**place) for f in teacher.features))
    found: list[torch.Tensor] = []

    def step() -> None:
        value = loss(student, fixed)
        found[:] = [value.detach(), *torch.autograd.grad(value, student.features)]

    recorder = GraphRecorder()
    for _ in range(3):
        recorder.warm_up(step)
    replay = recorder.record(step)
    with torch.no_grad():
        for f, new in zip(student.features, second.features, strict=True):
            f.copy_(new)
    replay()
    expected = samples.gradients(loss.cpu(), second, teacher)
    samples.assert_same([one.cpu() for one in found], [expected[0], *expected[2:]], 1e-4)


class _Count(TorchDispatchMode):
    """Counts operations that a GPU would launch: views and empty tensors are none."""

    FREE = (
        "view", "_unsafe_view", "detach", "expand", "transpose", "t", "permute", "unsqueeze", "squeeze", "split",
        "split_with_sizes", "slice", "select", "as_strided", "alias", "diagonal", "unbind", "_reshape_alias", "empty",
        "new_empty", "empty_like",
    )  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.launches = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.launches += func.overloadpacket.__name__ not in self.FREE
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("name", "most"), [("kd-svd", 1000), ("mhgd", 900), ("ii-kd", 1250)])
def test_a_step_of_the_loss_takes_few_operations(name: str, most: int) -> None:
    """On a GPU each is a launch, and the launches are what these losses cost there."""
    arguments = {"method": "products"} | ({} if name == "kd-svd" else {"trained": False})
    loss = LOSSES[name](**arguments)
    student, teacher = samples.network_like(1, n=4, noise=0.3), samples.network_like(1, n=4)
    loss.build(student, teacher, generator=torch.Generator().manual_seed(0), images=4)
    student = samples.cast(student, torch.float32, requires_grad=True)
    with _Count() as count:
        loss(student, teacher).backward()
    assert most / 2 < count.launches <= most
