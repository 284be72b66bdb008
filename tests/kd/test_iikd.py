"""II-KD: the sum of its three terms from one decomposition."""

import copy
import pickle

import paper_samples as samples
import pytest
import torch
from paper_samples import reference

from rolewise.errors import InputError
from rolewise.kd import IIKD, KDSVD, MHGD, RKD, Outputs, spectral
from rolewise.kd.kdsvd import kernel_loss
from rolewise.kd.spectral import Settings, aligned_vectors


def with_heads(method: str | None = None) -> IIKD:
    loss, x = IIKD(trained=False, heads=2, method=method), samples.outputs(1)
    loss.build(x, x, generator=torch.Generator().manual_seed(1), images=10)
    return loss


@pytest.mark.parametrize("dtype", samples.TOLERANCE)
@pytest.mark.parametrize("method", samples.METHODS)
def test_equals_the_loops(method: str, dtype: torch.dtype) -> None:
    loss = with_heads(method)
    heads = [
        tuple({k: b.double() for k, b in head.named_buffers()} for head in (pair.rows, pair.columns))
        for pair in loss.mhgd.pairs
    ]

    def loops(student: Outputs, teacher: Outputs) -> torch.Tensor:
        maps = student.features, teacher.features
        inter = reference.mhgd(*maps, heads, heads=2, eps=1e-5) + reference.kd_svd(*maps)
        return inter + reference.rkd(student.logits, teacher.logits)

    samples.check_against(loss, loops, dtype)


def test_is_the_sum_of_three() -> None:
    loss, x, y = with_heads(), samples.outputs(1), samples.outputs(2)
    mhgd = MHGD(trained=False, heads=2)
    mhgd.restore(loss.mhgd.state_dict())
    terms = [float(term(x, y)) for term in (mhgd, RKD(), KDSVD())]
    assert min(terms) > 0
    assert float(loss(x, y)) == pytest.approx(sum(terms), rel=1e-9)


def test_one_decomposition_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    plain = spectral._decompose
    monkeypatch.setattr(spectral, "_decompose", lambda *a: calls.append(a) or plain(*a))
    with_heads()(samples.outputs(1), samples.outputs(2))
    assert len(calls) == 1
    assert [len(calls[0][0]), len(calls[0][1])] == [3, 3]


def test_zero_at_equality() -> None:
    x = samples.outputs(1)
    value, *found = samples.gradients(with_heads(), x, x)
    assert abs(float(value)) < 1e-9
    assert max(float(g.abs().max()) for g in found) < 1e-6


def test_gradcheck() -> None:
    student, teacher, loss = samples.outputs(1), samples.outputs(2), with_heads()
    inputs = [x.requires_grad_() for x in samples.leaves(student)]
    assert torch.autograd.gradcheck(lambda z, *f: loss(Outputs(z, f), teacher), inputs, fast_mode=True)


def test_prepare_and_state_are_mhgds() -> None:
    x, y = samples.outputs(1), samples.outputs(2)
    loss, alone = IIKD(heads=2), MHGD(heads=2)
    assert not loss.prepared
    with pytest.raises(InputError, match="MHGD's heads are not trained yet"):
        loss(x, y)
    for one in (loss, alone):
        one.prepare(samples.Teacher(), samples.images(8), epochs=1, seed=5)
    assert loss.prepared
    kept = loss.state_dict()
    assert {f"mhgd.{name}" for name in alone.state_dict()} == set(kept)
    assert all(torch.equal(kept[f"mhgd.{name}"], b) for name, b in alone.state_dict().items())
    fresh = IIKD(heads=2)
    fresh.restore(kept)
    copies = [fresh, copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))]
    assert all(float(other(x, y)) == float(loss(x, y)) for other in copies)
    assert list(loss.parameters()) == []


def test_taps_reach_the_heads() -> None:
    loss = IIKD(taps=["x"], teacher_taps=["a", "b"], heads=2)
    loss.prepare(samples.Teacher(), samples.images(8), epochs=1, seed=5)
    assert (loss.taps, loss.teacher_taps) == (("x",), ("a", "b"))
    assert len(loss.mhgd.pairs) == 1


def test_variants() -> None:
    for loss in (IIKD(), IIKD.paper(), IIKD.release()):
        assert (loss.task_weight, loss.weight, loss.decay, loss.clip) == (1, 0.4, True, True)
    assert (IIKD().mhgd.heads, IIKD().mhgd.trained, IIKD().mhgd.settings) == (8, True, (None, False))
    release = IIKD.release().mhgd
    assert (release.heads, release.trained, release.norm_eps, release.settings) == (
        4,
        False,
        1e-3,
        ("eigh", True),
    )
    assert IIKD.release().prepared


def test_settings_reach_the_kernel_term() -> None:
    x, y = samples.outputs(1), samples.outputs(2)
    released = IIKD(trained=False, heads=2, doubled_gradient=True)
    released.restore(with_heads().state_dict())
    found = samples.gradients(lambda s, t: released(s, t), x, y)
    plain = samples.gradients(with_heads(), x, y)
    assert float(found[0]) == pytest.approx(float(plain[0]), rel=1e-9)
    torch.testing.assert_close(found[1], plain[1])  # logits: RKD alone
    assert (
        float((found[2] - 2 * plain[2]).norm() / plain[2].norm()) < 1e-6
    )  # more positions than channels: doubled
    vectors = aligned_vectors(x, y, Settings("eigh", True))
    assert float(kernel_loss(vectors)) == pytest.approx(float(KDSVD.release()(x, y)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    loss = with_heads()
    student, teacher = (samples.cast(samples.outputs(seed), dtype) for seed in (1, 2))
    found = samples.gradients(loss, student, teacher)
    single = samples.gradients(loss, *(samples.cast(x, torch.float32) for x in (student, teacher)))
    assert float(found[0]) == float(single[0])
    assert all(
        a.dtype == dtype and torch.equal(a, b.to(dtype)) for a, b in zip(found[1:], single[1:], strict=True)
    )
