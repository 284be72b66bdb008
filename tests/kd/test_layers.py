"""What the feature losses share, and the images for `prepare`."""

import further_samples as samples
import pytest
import torch
from torch.nn import functional as F

from rolewise.errors import InputError, InputTypeError
from rolewise.kd._images import crop_and_flip, normalized, training_batches
from rolewise.kd.checks import check_choice, check_positive
from rolewise.kd.layers import (
    Regressor,
    centered_unit,
    conv,
    linear,
    norm,
    pool_to,
    same_size,
    transposed_conv,
    unit,
)


def test_directions_and_what_has_none() -> None:
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0], [1e-13, 0.0]], requires_grad=True)
    found = unit(x, dim=1)
    torch.testing.assert_close(found, torch.tensor([[0.6, 0.8], [0.0, 0.0], [0.0, 0.0]]))
    found.sum().backward()
    # d/dx of (x + y) / |(x, y)| at (3, 4): (y^2 - x y) / 125.
    torch.testing.assert_close(x.grad, torch.tensor([[4 / 125, -3 / 125], [0.0, 0.0], [0.0, 0.0]]))


def test_a_constant_vector_is_constant_in_spite_of_rounding() -> None:
    rows = torch.full((2, 7), 0.1)
    rows[1, 0] = 0.2
    found, alive = centered_unit(rows, dim=1)
    assert alive.flatten().tolist() == [False, True]
    assert torch.equal(found[0], torch.zeros(7))
    torch.testing.assert_close(found[1].norm(), torch.tensor(1.0))
    assert (rows[0] - rows[0].mean()).abs().max() > 0  # what the floor is for


def test_the_length_of_zero_has_gradient_zero() -> None:
    x = torch.tensor([[0.0, 0.0], [3.0, 4.0]], requires_grad=True)
    norm(x, 1).sum().backward()
    torch.testing.assert_close(x.grad, torch.tensor([[0.0, 0.0], [0.6, 0.8]]))


@pytest.mark.parametrize(("height", "width"), [(6, 4), (3, 2), (4, 3), (1, 1)])
def test_pooling(height: int, width: int) -> None:
    x = torch.randn(2, 3, 6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(pool_to(x, height, width), samples.reference.pool(x, height, width))


def test_the_smaller_height_and_width_count() -> None:
    a, b = same_size(torch.zeros(2, 3, 4, 2), torch.zeros(2, 5, 2, 6))
    assert a.shape == (2, 3, 2, 2)
    assert b.shape == (2, 5, 2, 2)


def test_layers_are_drawn_as_pytorch_draws_them() -> None:
    generator = torch.Generator().manual_seed(0)
    layers = [
        (conv(20, 30, 3, generator), torch.nn.Conv2d(20, 30, 3)),
        (transposed_conv(20, 30, 4, generator), torch.nn.ConvTranspose2d(20, 30, 4)),
        (linear(200, 300, generator), torch.nn.Linear(200, 300)),
    ]
    for ours, usual in layers:
        assert ours.weight.shape == usual.weight.shape
        found, bias, bound = (
            ours.weight.detach(),
            ours.bias.detach(),
            float(usual.weight.detach().abs().max()),
        )
        assert float(found.abs().max()) == pytest.approx(bound, rel=0.01)
        assert float(found.var()) == pytest.approx(bound**2 / 3, rel=0.05)
        assert 0 < float(bias.abs().max()) <= bound * 1.01


@pytest.mark.parametrize("high", [1, 2, 3, 4, 6, 8, 9])
def test_the_regressor_reaches_every_size(high: int) -> None:
    bridge = Regressor((3, 4, 4), (5, high, high), torch.Generator().manual_seed(0), relu=True)
    out = bridge(torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(1)))
    assert out.shape == (2, 5, high, high)
    assert out.min() >= 0


def test_checks_of_arguments() -> None:
    assert check_positive("p", 2) == 2.0
    for wrong in ("two", None, True):
        with pytest.raises(InputTypeError, match="`p` must be a number above 0, got"):
            check_positive("p", wrong)
    with pytest.raises(InputError, match="`form` must be 'a' or 'b', got 'c'"):
        check_choice("form", "c", ("a", "b"))


def test_normalized_images() -> None:
    split = samples.split(3)
    found = normalized(split.images, split, torch.device("cpu"))
    assert found.shape == (3, 3, 8, 8)
    for n, y, x, c in ((0, 0, 0, 0), (2, 7, 3, 1), (1, 4, 6, 2)):
        value = (int(split.images[n, y, x, c]) / 255 - split.mean[c]) / split.std[c]
        assert float(found[n, c, y, x]) == pytest.approx(value, abs=1e-6)


def test_crops_are_windows_of_the_padded_image_half_of_them_mirrored() -> None:
    images = torch.arange(1.0, 1 + 2 * 3 * 5 * 4).view(2, 3, 5, 4)
    padded = F.pad(images, (4, 4, 4, 4))
    seen = set()
    generator = torch.Generator().manual_seed(0)
    for _ in range(400):
        cropped = crop_and_flip(images, generator)
        windows = {
            (top, left, flip): window.flip(3) if flip else window
            for top in range(9)
            for left in range(9)
            for window in [padded[:1, :, top : top + 5, left : left + 4]]
            for flip in (False, True)
        }
        match = [key for key, window in windows.items() if torch.equal(window, cropped[:1])]
        assert match
        seen.update(match)
    assert {top for top, _, _ in seen} == {left for _, left, _ in seen} == set(range(9))
    assert {flip for _, _, flip in seen} == {False, True}


def test_an_epoch_is_every_image_once_in_an_order_of_its_own() -> None:
    split = samples.split(10)
    split.images[:] = torch.arange(10, dtype=torch.uint8).view(10, 1, 1, 1) + 100
    arguments = {"seed": 1, "stream": "x", "device": torch.device("cpu")}

    def order(epoch: int, batch: int) -> list[list[int]]:
        batches = training_batches(split, batch=batch, epoch=epoch, **arguments)
        # Padding is 0, the images are below it.
        return [((b[:, 0].amin((1, 2)) * 0.2 + 0.5) * 255 - 100).round().int().tolist() for b in batches]

    first, second = order(0, 4), order(1, 4)
    assert [len(b) for b in first] == [4, 4]
    assert len({image for batch in first for image in batch}) == 8
    assert first == order(0, 4) != second
    (all_of_them,) = order(0, 128)
    assert sorted(all_of_them) == list(range(10))
