"""KD-SVD: golden values, the float64 loops, invariances, the kernel's expansion."""

import math

import paper_samples as samples
import pytest
import torch
from paper_samples import reference
from torch import Tensor

from rolewise.errors import InputError
from rolewise.kd import KDSVD, Outputs
from rolewise.kd.kdsvd import kernel_distance, kernel_features, kernel_loss
from rolewise.kd.spectral import Aligned, Settings, aligned_vectors, leading_vectors

methods = pytest.mark.parametrize("method", samples.METHODS)


def golden_map(images: int, channels: int, size: int, offset: int) -> Tensor:
    values = (torch.arange(images * channels * size * size) * 7 + 3 * offset) % 11
    return values.double().view(images, channels, size, size)


def golden_pair(layers: int) -> tuple[Outputs, Outputs]:
    logits = torch.zeros(2, 3, dtype=torch.float64)
    student = (golden_map(2, 4, 3, 1), golden_map(2, 6, 2, 2), golden_map(2, 5, 2, 7))
    teacher = (golden_map(2, 4, 3, 4), golden_map(2, 6, 2, 5), golden_map(2, 5, 2, 9))
    return Outputs(logits, student[:layers]), Outputs(logits, teacher[:layers])


@methods
@pytest.mark.parametrize(("layers", "value"), [(2, 0.0009025909), (3, 0.0017870221)])
def test_golden_values(method: str, layers: int, value: float) -> None:
    assert float(KDSVD(method=method)(*golden_pair(layers))) == pytest.approx(value, abs=1e-10)


def test_golden_vector_of_the_teacher() -> None:
    vector = leading_vectors(golden_pair(2)[1].features)[0][0]
    expected = torch.tensor([0.476965, 0.529011, 0.445244, 0.542595], dtype=torch.float64)
    torch.testing.assert_close(vector, expected, rtol=0, atol=1e-6)


def test_the_sign_between_layers_matters() -> None:
    """The golden value for the opposite relative sign of the teacher's two vectors: what the sign rule rules out."""
    v = aligned_vectors(*golden_pair(2))
    flipped = Aligned((v.student[0], -v.student[1]), (v.teacher[0], -v.teacher[1]), v.alive)
    assert float(kernel_loss(flipped)) == pytest.approx(0.0477046158, abs=1e-10)


@methods
@pytest.mark.parametrize("dtype", samples.TOLERANCE)
def test_equals_the_loops(method: str, dtype: torch.dtype) -> None:
    samples.check_against(KDSVD(method=method), lambda s, t: reference.kd_svd(s.features, t.features), dtype)


@methods
def test_gradcheck(method: str) -> None:
    student, teacher = samples.outputs(1, n=2), samples.outputs(2, n=2)
    maps = [f.requires_grad_() for f in student.features]
    loss = KDSVD(method=method)
    fast = method != "exact"
    assert torch.autograd.gradcheck(
        lambda *f: loss(Outputs(student.logits, f), teacher), maps, fast_mode=fast
    )


@methods
def test_zero_at_equality(method: str) -> None:
    x = samples.network_like(1)
    value, *found = samples.gradients(KDSVD(method=method), x, x)
    assert abs(float(value)) < 1e-6
    # Scaled by the student's own step: moving a map by its own length would change the loss by less than 1e-4.
    for gradient, feature in zip(found[1:], x.features, strict=True):
        assert float((gradient * feature.norm()).norm()) < 1e-4


@methods
def test_invariances(method: str) -> None:
    student, teacher, loss = samples.outputs(1), samples.outputs(2), KDSVD(method=method)
    value, *found = samples.gradients(loss, student, teacher)
    scaled = Outputs(
        student.logits, tuple(s * f for s, f in zip((3.0, 0.01, 1e4), student.features, strict=True))
    )
    assert float(loss(scaled, teacher)) == pytest.approx(float(value), rel=1e-6)
    moved = tuple(f.flatten(2)[:, :, torch.randperm(f[0, 0].numel())].view_as(f) for f in student.features)
    assert float(loss(Outputs(student.logits, moved), teacher)) == pytest.approx(float(value), rel=1e-6)
    twice = [
        Outputs(torch.cat([x.logits] * 2), tuple(torch.cat([f] * 2) for f in x.features))
        for x in (student, teacher)
    ]
    assert float(loss(*twice)) == pytest.approx(2 * float(value), rel=1e-9)
    for gradient, feature in zip(found[1:], student.features, strict=True):
        assert abs(float((gradient * feature).sum())) < 1e-9 * float(gradient.norm() * feature.norm())


def test_maps_may_differ_in_size_but_not_in_channels() -> None:
    student, teacher = samples.outputs(1), samples.outputs(2, maps=((4, 5, 2), (6, 1, 3), (5, 3, 3)))
    found = samples.gradients(KDSVD(), student, teacher)
    expected = samples.gradients(lambda s, t: reference.kd_svd(s.features, t.features), student, teacher)
    samples.assert_same(found, expected, 1e-6)
    with pytest.raises(InputError, match=r"features\[1\].*same number of channels.*6 against 7.*`taps`"):
        KDSVD()(student, samples.outputs(2, maps=((4, 3, 3), (7, 2, 2), (5, 2, 2))))
    with pytest.raises(InputError, match="at least 2 feature maps are needed, got 1"):
        KDSVD()(samples.outputs(1, maps=((4, 3, 3),)), samples.outputs(2, maps=((4, 3, 3),)))


@pytest.mark.parametrize(("dtype", "terms", "error"), [(torch.float32, 6, 5e-7), (torch.float64, 12, 1e-15)])
def test_expansion_of_the_kernel(dtype: torch.dtype, terms: int, error: float) -> None:
    a = torch.linspace(-1, 1, 41, dtype=dtype)
    phi = kernel_features(a.unsqueeze(0), terms)[0]
    phi[0] += 1
    exact = torch.exp(-((a.double().unsqueeze(1) - a.double()) ** 2) / 8)
    assert float((phi.T.double() @ phi.double() - exact).abs().max()) < error
    assert (1 / 4) ** terms / math.factorial(terms) < error


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("distance", [1e-1, 1e-3, 1e-5])
def test_small_differences_are_not_lost(dtype: torch.dtype, distance: float) -> None:
    """Against the broadcast form in float64; in float32 that form itself has no digit left at 1e-5."""
    g = torch.Generator().manual_seed(3)
    a, b = (torch.nn.functional.normalize(torch.rand(2, c, generator=g, dtype=torch.float64)) for c in (7, 5))
    x, y = (v + distance * torch.randn(v.shape, generator=g, dtype=torch.float64) for v in (a, b))
    exact = torch.zeros(2, dtype=torch.float64)
    for i in range(7):
        for j in range(5):
            one = torch.expm1(-((x[:, i] - y[:, j]) ** 2) / 8) - torch.expm1(-((a[:, i] - b[:, j]) ** 2) / 8)
            exact += one**2
    terms = 6 if dtype == torch.float32 else 12
    features = [kernel_features(v.to(dtype), terms) for v in (x, y, a, b)]
    found = kernel_distance((features[0], features[1]), (features[2], features[3])).double()
    # In float32 the vectors themselves are rounded: 6e-8 against the distance.
    torch.testing.assert_close(
        found, exact, rtol=1e-6 + (3e-7 / distance if dtype == torch.float32 else 0), atol=0
    )


def test_variants() -> None:
    for loss in (KDSVD(), KDSVD.paper(), KDSVD.release()):
        assert (loss.task_weight, loss.weight, loss.decay, loss.clip) == (1, 1, True, True)
    assert KDSVD().settings == (None, False)
    assert KDSVD.release().settings == ("eigh", True)
    with pytest.raises(InputError, match='`method` must be None, "exact", "eigh" or "products", got \'svd\''):
        KDSVD(method="svd")
    with pytest.raises(InputError, match='`doubled_gradient` needs all eigenvectors.*got "products"'):
        KDSVD.release(method="products")


def test_the_released_gradient() -> None:
    """That of the authors' code in both shapes; with the factor that it leaves out, the true one."""
    student, teacher = samples.outputs(1), samples.outputs(2)
    arriving = [
        torch.randn(3, f.shape[1], generator=torch.Generator().manual_seed(7)).double()
        for f in student.features
    ]
    for released in (False, True):
        settings = Settings("eigh", released)
        maps = samples.cast(student, torch.float64, requires_grad=True)
        vectors = aligned_vectors(maps, teacher, settings).student
        sum((g * v).sum() for g, v in zip(arriving, vectors, strict=True)).backward()
        shapes = set()
        for feature, g, found in zip(maps.features, arriving, vectors, strict=True):
            for image in range(3):
                matrix = feature.detach()[image].flatten(1).T
                rows = torch.linalg.svd(matrix, full_matrices=False)[2]
                column = int((rows @ found[image].detach()).abs().argmax())
                sign = torch.sign(rows[column] @ found[image].detach())
                expected = samples.reference.svd_gradient(matrix, column, sign * g[image], half=not released)
                torch.testing.assert_close(feature.grad[image].flatten(1).T, expected, rtol=1e-7, atol=1e-9)
                shapes.add(matrix.shape[0] >= matrix.shape[1])
        assert shapes == {True, False}
