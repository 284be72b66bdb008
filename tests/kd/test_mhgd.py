"""MHGD: golden value, the float64 loops, the training of the heads, their state."""

import copy
import pickle

import paper_samples as samples
import pytest
import torch
from paper_samples import reference
from torch import Tensor

from rolewise.errors import InputError
from rolewise.kd import MHGD
from rolewise.kd.estimator import Estimator
from rolewise.kd.mhgd import graph_divergence

EPS, MOMENTUM = 1e-5, 0.1


def with_heads(method: str | None = None, heads: int = 2) -> MHGD:
    """Random heads whose batch norms are not trivial, for the maps of `samples.outputs`, in float64."""
    loss = MHGD(trained=False, heads=heads, norm_eps=EPS, method=method)
    x = samples.outputs(1)
    loss.build(x, x, generator=torch.Generator().manual_seed(1), images=10)
    generator = torch.Generator().manual_seed(2)
    for buffer in loss.double().buffers():
        buffer.add_(0.3 * torch.rand(buffer.shape, generator=generator))
    return loss


def states(loss: MHGD) -> list[tuple[dict[str, Tensor], dict[str, Tensor]]]:
    return [tuple(dict(head.named_buffers()) for head in (pair.rows, pair.columns)) for pair in loss.pairs]


def test_golden_value_of_the_graphs() -> None:
    student, teacher = torch.tensor([[[1.0, 0], [0, 2]]]), torch.tensor([[[0.0, 1], [1, 0]]])
    value = graph_divergence(student.double(), teacher.double())
    assert float(value) == pytest.approx(0.6220622245, abs=1e-10)
    halves = [
        graph_divergence(student.double(), teacher.double(), torch.tensor(rows))
        for rows in ([True, False], [False, True])
    ]
    assert float(sum(halves)) == pytest.approx(float(value))


@pytest.mark.parametrize("dtype", samples.TOLERANCE)
@pytest.mark.parametrize("method", samples.METHODS)
def test_equals_the_loops(method: str, dtype: torch.dtype) -> None:
    loss = with_heads(method)
    heads = states(loss)
    samples.check_against(
        loss, lambda s, t: reference.mhgd(s.features, t.features, heads, heads=2, eps=EPS), dtype
    )


@pytest.mark.parametrize("method", samples.METHODS)
def test_gradcheck(method: str) -> None:
    student, teacher = samples.outputs(1), samples.outputs(2)
    loss = with_heads(method)
    maps = [f.requires_grad_() for f in student.features]
    assert torch.autograd.gradcheck(
        lambda *f: loss(type(student)(student.logits, f), teacher), maps, fast_mode=True
    )


@pytest.mark.parametrize("method", samples.METHODS)
def test_zero_at_equality_and_invariant_to_scale(method: str) -> None:
    loss, x, y = with_heads(method), samples.outputs(1), samples.outputs(2)
    value, _, *found = samples.gradients(loss, x, x)
    assert abs(float(value)) < 1e-12
    assert max(float(g.abs().max()) for g in found) < 1e-9
    scaled = type(x)(x.logits, tuple(7 * f for f in x.features))
    assert float(loss(scaled, y)) == pytest.approx(float(loss(x, y)), rel=1e-9)


def test_sizes_of_the_heads() -> None:
    """d is the mean of the two numbers of channels, rounded down: 96, 192, 384 for a ResNet; a graph per head."""
    maps = ((64, 2, 2), (128, 2, 2), (256, 2, 2), (512, 1, 2))
    x, loss = samples.outputs(1, maps=maps), MHGD.release()
    loss.build(x, x, generator=torch.Generator(), images=1)
    assert [len(pair.rows.weight) // 4 for pair in loss.pairs] == [96, 192, 384]
    assert [tuple(pair.columns.weight.shape) for pair in loss.pairs] == [(384, 64), (768, 128), (1536, 256)]
    graphs = loss.pairs[0](torch.rand(7, 128), torch.rand(7, 64))
    assert graphs.shape == (4, 7, 7)


def test_release() -> None:
    """4 random heads, whose batch norm only multiplies by 1 / sqrt(1.001); no `prepare`, at first use if need be."""
    loss, x = MHGD.release(), samples.cast(samples.outputs(1), torch.float32)
    assert loss.prepared
    assert loss.settings == ("eigh", True)
    loss.prepare(samples.Teacher(), samples.images(4), epochs=1, seed=0)
    assert len(loss.pairs) == 0
    value = loss(x, samples.cast(samples.outputs(2), torch.float32))
    assert float(value) == float(MHGD.release()(x, samples.cast(samples.outputs(2), torch.float32)))
    head = loss.pairs[0].rows
    vector = torch.rand(3, head.weight.shape[1])
    torch.testing.assert_close(head(vector), vector @ head.weight.T / 1.001**0.5)
    assert float(head.weight.std()) == pytest.approx((2 / 6) ** 0.5, rel=0.2)  # Kaiming's rule, 6 inputs


def test_build_draws_from_the_generator() -> None:
    x = samples.outputs(1)
    first, second, other = MHGD.release(), MHGD.release(), MHGD.release()
    for loss, seed in ((first, 1), (second, 1), (other, 2)):
        loss.build(x, x, generator=torch.Generator().manual_seed(seed), images=1)
    assert torch.equal(first.pairs[0].rows.weight, second.pairs[0].rows.weight)
    assert not torch.equal(first.pairs[0].rows.weight, other.pairs[0].rows.weight)
    trained = MHGD()
    trained.build(x, x, generator=torch.Generator(), images=1)
    assert not trained.prepared


def test_variants() -> None:
    for loss in (MHGD(), MHGD.paper()):
        assert (loss.task_weight, loss.weight, loss.decay, loss.clip) == (1, 1, True, True)
        assert (loss.heads, loss.trained, loss.norm_eps, loss.norm_momentum) == (8, True, 1e-5, 0.1)
    release = MHGD.release()
    assert (release.heads, release.trained, release.norm_eps, release.norm_momentum) == (4, False, 1e-3, 0.01)
    assert (release.task_weight, release.weight, release.decay, release.clip) == (1, 1, True, True)


# The training of the heads; its steps are tested in test_estimator.py.


def test_training_helps_and_leaves_all_else_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    teacher, split = samples.Teacher(), samples.images(64)
    before = {name: x.clone() for name, x in teacher.state_dict().items()}
    randomness = torch.get_rng_state()
    losses: list[float] = []
    plain = Estimator.loss

    def watched(self: Estimator, *arguments: object) -> Tensor:
        value = plain(self, *arguments)  # type: ignore[arg-type]
        losses.append(float(value.detach()))
        return value

    monkeypatch.setattr(Estimator, "loss", watched)
    loss = MHGD(heads=2)
    assert not loss.prepared
    loss.prepare(teacher, split, epochs=8, seed=0)
    assert loss.prepared
    assert len(losses) == 16  # two pairs of layers, one batch an epoch
    assert sum(losses[-4:]) < 0.7 * sum(losses[:4])
    assert all(torch.equal(x, before[name]) for name, x in teacher.state_dict().items())
    assert not any(module.training for module in teacher.modules())
    assert torch.equal(torch.get_rng_state(), randomness)


def test_prepare_depends_on_the_seed_alone() -> None:
    found = []
    for seed in (3, 3, 4):
        loss = MHGD(heads=2)
        loss.prepare(samples.Teacher(), samples.images(8), epochs=2, seed=seed)
        found.append(loss.state_dict())
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    assert not torch.equal(found[0]["pairs.0.rows.weight"], found[2]["pairs.0.rows.weight"])


def test_heads_are_frozen() -> None:
    loss, x, y = with_heads(), samples.outputs(1), samples.outputs(2)
    value = float(loss(x, y))
    before = {name: b.clone() for name, b in loss.state_dict().items()}
    assert list(loss.parameters()) == []
    loss.train()
    assert float(loss(x, y)) == value
    assert all(torch.equal(b, before[name]) for name, b in loss.state_dict().items())


def test_state_travels() -> None:
    teacher, x, y = (
        samples.Teacher(),
        samples.outputs(1, maps=((4, 3, 3), (6, 2, 2), (5, 2, 2))),
        samples.outputs(2),
    )
    loss = MHGD(heads=3)
    loss.prepare(teacher, samples.images(8), epochs=1, seed=0)
    value = float(loss(x, y))
    fresh, loaded = MHGD(heads=3), MHGD(heads=3)
    fresh.restore(loss.state_dict())
    loaded.load_state_dict(loss.state_dict())
    copies = [fresh, loaded, copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))]
    assert all(other.prepared and float(other(x, y)) == value for other in copies)
    other_sizes = MHGD(heads=3)
    other_sizes.prepare(samples.Teacher((7, 8, 9)), samples.images(8), epochs=1, seed=0)
    other_sizes.restore(loss.state_dict())
    assert float(other_sizes(x, y)) == value


def test_refuses() -> None:
    x = samples.outputs(1)
    with pytest.raises(
        InputError, match=r"MHGD's heads are not trained yet: call prepare\(teacher, split\) first"
    ):
        MHGD()(x, x)
    prepared = MHGD(heads=2)
    prepared.prepare(samples.Teacher((7, 8, 9)), samples.images(4), epochs=1, seed=0)
    with pytest.raises(InputError, match=r"made for feature maps of \[7, 8, 9\] channels, got \[4, 6, 5\]"):
        prepared(x, x)
    with pytest.raises(InputError, match="These tensors do not fit MHGD"):
        MHGD(heads=3).restore(prepared.state_dict())
    with pytest.raises(InputError, match="These tensors do not fit MHGD"):
        MHGD().restore({"something": torch.zeros(1)})
    with pytest.raises(InputError, match="`heads` must be an integer at least 1, got 0"):
        MHGD(heads=0)
    with pytest.raises(InputError, match="`epochs` must be an integer at least 1, got 0"):
        MHGD().prepare(samples.Teacher(), samples.images(4), epochs=0)
    with pytest.raises(InputError, match="at least 2 training images, got 1"):
        MHGD().prepare(samples.Teacher(), samples.images(1), epochs=1)
    with pytest.raises(InputError, match="is in training mode.*teacher.eval"):
        MHGD().prepare(samples.Teacher().train(), samples.images(4), epochs=1)
    with pytest.raises(InputError, match='Unknown tap of the teacher network "heat".*Did you mean "head"'):
        MHGD(taps=["a", "heat"]).prepare(samples.Teacher(), samples.images(4), epochs=1)
    with pytest.raises(InputError, match="at least 2 feature maps are needed, got 1"):
        MHGD(taps=["a"]).prepare(samples.Teacher(), samples.images(4), epochs=1)
