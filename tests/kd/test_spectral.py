"""The shared decomposition: alignment, libraries, degenerate maps, and the two ways to compute it."""

from collections.abc import Callable

import paper_samples as samples
import pytest
import torch
from torch import Tensor

from rolewise.kd import KDSVD, MHGD, Outputs, eigen, spectral
from rolewise.kd.eigen import Spectrum, full_spectrum
from rolewise.kd.spectral import Settings, aligned_vectors, leading_vectors
from rolewise.kd.subspace import Products

methods = pytest.mark.parametrize("method", samples.METHODS)


@methods
def test_vectors_are_aligned_unit_vectors(method: str) -> None:
    student, teacher = samples.network_like(1, noise=1.0), samples.network_like(1)
    vectors = aligned_vectors(student, teacher, Settings(method))
    for s, t, alive in zip(*vectors, strict=True):
        assert bool(alive.all())
        torch.testing.assert_close(s.norm(dim=1), torch.ones(len(s)))
        torch.testing.assert_close(t.norm(dim=1), torch.ones(len(t)))
        assert float((s * t).sum(1).min()) >= 0
        assert float(t.sum(1).min()) >= 1 - 1e-5  # a non-negative unit vector sums to at least 1
        assert float(t.min()) >= -1e-6
        assert not t.requires_grad
    for one, other in zip(leading_vectors(teacher.features, Settings(method)), vectors.teacher, strict=True):
        torch.testing.assert_close(one, other)


@methods
def test_the_nearest_of_four_is_taken(method: str) -> None:
    """Orthogonal singular vectors of falling strength; the teacher's is the third, with the opposite sign."""
    basis = torch.linalg.qr(
        torch.randn(8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    )[0]
    positions = torch.linalg.qr(
        torch.randn(9, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    )[0]
    strength = torch.tensor([8.0, 6, 4, 3, 2.5, 1, 0.5, 0.1], dtype=torch.float64)
    student = (basis * strength @ positions.T).view(1, 8, 3, 3)
    for index in range(5):
        direction = basis[:, index] * torch.where(basis[:, index].sum() < 0, 1.0, -1.0)
        teacher = (direction.unsqueeze(1) @ torch.ones(1, 9, dtype=torch.float64)).view(1, 8, 3, 3)
        logits = torch.zeros(1, 2, dtype=torch.float64)
        found = aligned_vectors(
            Outputs(logits, (student,) * 2), Outputs(logits, (teacher,) * 2), Settings(method)
        )
        if index < 4:
            torch.testing.assert_close(found.student[0][0], -direction, rtol=0, atol=1e-6)
        else:  # the fifth is no candidate: what is left of the cosines is rounding
            assert float((found.student[0][0] * direction).sum().abs()) < 1e-6


def _flipped(spectrum: Spectrum, seed: int) -> Spectrum:
    generator = torch.Generator().manual_seed(seed)
    signs = torch.randint(0, 2, spectrum.values.shape, generator=generator).to(spectrum.values.dtype) * 2 - 1
    return Spectrum(spectrum.values, spectrum.vectors * signs.unsqueeze(1))


def _by_svd(gram: Tensor) -> Spectrum:
    vectors, values, _ = torch.linalg.svd(gram)
    return Spectrum(values, vectors)


LIBRARIES: dict[str, Callable[[Tensor], Spectrum]] = {
    "eigh": full_spectrum,
    "eigh, other signs": lambda gram: _flipped(full_spectrum(gram), 1),
    "svd": _by_svd,
    "svd, other signs": lambda gram: _flipped(_by_svd(gram), 2),
}


@pytest.mark.parametrize("loss", ["kd-svd", "mhgd"])
@pytest.mark.parametrize("library", [*LIBRARIES, "exact", "products", "products, other signs"])
def test_the_library_does_not_matter(library: str, loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    student, teacher = samples.network_like(1, noise=0.5), samples.network_like(1)
    student, teacher = samples.cast(student, torch.float64), samples.cast(teacher, torch.float64)
    kind = {"kd-svd": KDSVD, "mhgd": lambda **kw: MHGD(trained=False, heads=2, **kw)}[loss]
    expected = samples.gradients(kind(method="eigh"), student, teacher)
    if library in LIBRARIES:
        monkeypatch.setattr(eigen, "full_spectrum", LIBRARIES[library])
        found = samples.gradients(kind(method="eigh"), student, teacher)
    else:
        if "other" in library:
            plain = spectral.Products.__init__

            def flipped(self: Products, *grams: list[Tensor]) -> None:
                plain(self, *grams)
                self._spectrum = _flipped(self._spectrum, 3)
                self._leading = self._leading * (torch.arange(len(self._leading)) % 2 * 2 - 1).unsqueeze(1)

            monkeypatch.setattr(spectral.Products, "__init__", flipped)
        found = samples.gradients(kind(method=library.split(",")[0]), student, teacher)
    samples.assert_same(found, expected, 1e-6)


@methods
def test_close_to_float64_on_maps_like_a_networks(method: str) -> None:
    """The bound that `products` states (1e-4), and the same for the others, image by image."""
    student, teacher = samples.network_like(1, noise=0.5), samples.network_like(1)
    expected = samples.gradients(
        KDSVD(method="eigh"), samples.cast(student, torch.float64), samples.cast(teacher, torch.float64)
    )
    found = samples.gradients(KDSVD(method=method), student, teacher)
    assert float(found[0]) == pytest.approx(float(expected[0]), rel=1e-4)
    for a, b in zip(found[2:], expected[2:], strict=True):
        error = (a.double() - b).flatten(1).norm(dim=1) / b.flatten(1).norm(dim=1)
        assert float(error.max()) < 1e-4


# Degenerate maps.


def degenerate(case: str, n: int = 3) -> tuple[Outputs, Outputs]:
    """Student and teacher, in float64; the second image of the student's maps is degenerate, or all are."""
    student, teacher = samples.outputs(1, n=n), samples.outputs(2, n=n)
    g = torch.Generator().manual_seed(4)
    for layer, feature in enumerate(student.features):
        c, h, w = feature.shape[1:]
        if case == "dead channels":
            feature[:, ::2] = 0
        elif case == "one live channel":
            feature[:, 1:] = 0
        elif case == "rank 1":
            left, right = torch.rand(n, c, 1, generator=g), torch.rand(n, 1, h * w, generator=g)
            feature.copy_((left @ right).view(n, c, h, w))
        elif case == "equal singular values":
            feature.copy_(torch.eye(c, h * w).view(1, c, h, w).expand(n, -1, -1, -1))
        elif case == "constant":
            feature.fill_(0.5)
        elif case == "duplicate channels":
            feature[:, 1] = feature[:, 0]
        elif case == "duplicated samples":
            feature[1] = feature[0]
        elif case == "one zero map":
            feature[1] = 0 if layer == 1 else feature[1]
        elif case == "all zero":
            feature.zero_()
        elif case == "orthogonal to the teacher":
            feature[:, 1:] = 0
            teacher.features[layer][:, 0] = 0
        elif case == "tiny":
            feature.mul_(1e-12)
        elif case == "huge":
            feature.mul_(1e12)
        elif case == "not finite":
            feature[1, 0, 0, 0] = float("nan") if layer else float("inf")
        elif case == "teacher zero":
            teacher.features[layer][1] = 0
    return student, teacher


CASES = (
    "dead channels", "one live channel", "rank 1", "equal singular values", "constant", "duplicate channels",
    "duplicated samples", "one zero map", "all zero", "orthogonal to the teacher", "tiny", "huge", "not finite",
    "teacher zero",
)  # fmt: skip


@pytest.mark.parametrize("dtype", samples.TOLERANCE)
@methods
@pytest.mark.parametrize("case", CASES)
def test_degenerate_maps_have_finite_gradients(case: str, method: str, dtype: torch.dtype) -> None:
    student, teacher = (samples.cast(x, dtype) for x in degenerate(case))
    for loss in (KDSVD(method=method), MHGD(method=method, trained=False, heads=2)):
        found = samples.gradients(loss, student, teacher)
        assert all(bool(x.isfinite().all()) for x in found), loss


@methods
@pytest.mark.parametrize("case", ["one zero map", "not finite", "teacher zero"])
def test_a_dead_map_leaves_the_other_images_alone(case: str, method: str) -> None:
    student, teacher = degenerate(case)
    keep = torch.tensor([0, 2])
    without = [Outputs(x.logits[keep], tuple(f[keep] for f in x.features)) for x in (student, teacher)]
    loss = KDSVD(method=method)
    found, expected = samples.gradients(loss, student, teacher), samples.gradients(loss, *without)
    if case == "one zero map":  # its image is left out in both pairs of layers that the map is in
        torch.testing.assert_close(found[0], expected[0])
    for a, b in zip(found[2:], expected[2:], strict=True):
        torch.testing.assert_close(a[keep], b, rtol=1e-6, atol=1e-12)
        assert float(a[1].abs().max()) == 0


@methods
@pytest.mark.parametrize(
    "case", ["dead channels", "one live channel", "rank 1", "duplicate channels", "constant"]
)
def test_gradient_is_the_limit_where_one_exists(case: str, method: str) -> None:
    """Rank-deficient maps whose leading singular value stands apart: finite differences agree (SVD's autograd: NaN)."""
    student, teacher = degenerate(case, n=2)
    maps = [f.requires_grad_() for f in student.features]
    loss = KDSVD(method=method)
    assert torch.autograd.gradcheck(
        lambda *f: loss(Outputs(student.logits, f), teacher), maps, fast_mode=True
    )


@methods
def test_the_limit_is_approached(method: str) -> None:
    """The gradient at a rank-1 map is that of maps that come ever closer to it."""
    student, teacher = degenerate("rank 1")
    at = samples.gradients(KDSVD(method=method), student, teacher)
    noise = [
        torch.rand(f.shape, generator=torch.Generator().manual_seed(8), dtype=f.dtype)
        for f in student.features
    ]
    errors = []
    for step in (1e-3, 1e-5, 1e-7):
        near = Outputs(
            student.logits, tuple(f + step * e for f, e in zip(student.features, noise, strict=True))
        )
        found = samples.gradients(KDSVD(method=method), near, teacher)
        errors.append(max(float((a - b).norm() / b.norm()) for a, b in zip(found[2:], at[2:], strict=True)))
    assert errors[0] < 1e-1
    assert errors[1] < 1e-3
    assert errors[2] < 1e-5


def test_matrix_products_are_in_full_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    products = torch.bmm

    def watched(*args: Tensor) -> Tensor:
        seen.append(torch.get_float32_matmul_precision())
        return products(*args)

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        monkeypatch.setattr(torch, "bmm", watched)
        student, teacher = samples.network_like(1, n=4), samples.network_like(2, n=4)
        student = samples.cast(student, torch.float32, requires_grad=True)
        vectors = aligned_vectors(student, teacher)
        torch.stack([v.sum() for v in vectors.student]).sum().backward()
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    assert len(seen) > 20
    assert set(seen) == {"highest"}


def test_maps_changed_in_place_are_noticed() -> None:
    student, teacher = samples.network_like(1, n=4), samples.network_like(2, n=4)
    leaves = [f.clone().requires_grad_() for f in student.features]
    maps = tuple(2 * leaf for leaf in leaves)
    value = KDSVD()(Outputs(student.logits, maps), teacher)
    maps[1].add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.backward()


def test_backward_can_be_run_again() -> None:
    student, teacher = samples.network_like(1, n=4), samples.network_like(2, n=4)
    maps = [f.clone().requires_grad_() for f in student.features]
    value = KDSVD()(Outputs(student.logits, tuple(maps)), teacher)
    first = torch.autograd.grad(value, maps, retain_graph=True)
    again = torch.autograd.grad(value, maps)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_a_gradient_has_the_memory_format_of_its_map() -> None:
    """In another one, the backward pass of the ReLU before the tap takes many times as long on a CPU."""
    student, teacher = samples.outputs(1), samples.outputs(2)
    gradients = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        maps = [f.clone(memory_format=memory_format).requires_grad_() for f in student.features]
        found = torch.autograd.grad(KDSVD()(Outputs(student.logits, tuple(maps)), teacher), maps)
        for one in found:  # not `.grad`, which is copied into the format of its leaf
            assert one.is_contiguous(memory_format=memory_format)
        gradients.append(found)
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
