"""The table of ops against the published one, and what `apply_op` takes and refuses."""

import numpy as np
import pytest
import torch
from pillow_ops import SIGNED, STRENGTHS

from rolewise.augment import OPS, apply_op
from rolewise.errors import InputError, InputTypeError

# Order of the published schedules, from the method's description.
ORDER = [
    "Rotate", "TranslateX", "TranslateY", "Brightness", "Color", "Invert", "Sharpness", "Posterize",
    "ShearX", "Solarize", "ShearY", "Equalize", "AutoContrast", "Cutout", "Contrast",
]  # fmt: skip


def images(n: int = 3, height: int = 6, width: int = 5) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, height, width, 4)).astype(np.uint8)


def test_published_order_comes_first():
    assert list(OPS)[:15] == ORDER
    assert len(OPS) > 15
    assert all(name == op.name for name, op in OPS.items())


@pytest.mark.parametrize("name", ORDER)
def test_strengths_are_the_published_ones(name):
    op = OPS[name]
    assert op.signed == (name in SIGNED)
    for magnitude in range(10):
        assert op.strength(magnitude) == pytest.approx(STRENGTHS[name][magnitude], abs=1e-12)
        assert op.strength(magnitude, -1) == pytest.approx(
            STRENGTHS[name][magnitude] * (-1 if name in SIGNED else 1), abs=1e-12
        )


def test_units_and_ranges():
    assert [(op.unit, op.range) for op in OPS.values()][:3] == [
        ("degrees", (0, 27)),
        ("pixels", (0, 9)),
        ("pixels", (0, 9)),
    ]
    assert OPS["ShearX"].range == (0, pytest.approx(0.27))
    assert OPS["Color"].range == (pytest.approx(0.1), pytest.approx(1.72))
    assert OPS["Color"].strength(5) == 1.0
    assert OPS["Posterize"].range == (4, 1)
    assert OPS["Solarize"].range == (256, 26)
    assert OPS["Cutout"].range == (0, 18)
    assert OPS["Invert"].range is None
    with pytest.raises(TypeError):
        OPS["Mine"] = OPS["Invert"]


def test_positive_translation_moves_the_content_left():
    x = images(1, 32, 32)
    result = apply_op("TranslateX", x, np.array([9]))
    np.testing.assert_array_equal(result[:, :, 0], x[:, :, 9])
    assert not result[:, :, 23:].any()
    assert result[:, :, 22].any()


def test_shear_leaves_its_first_line():
    x = images(1, 32, 32)
    np.testing.assert_array_equal(apply_op("ShearX", x, np.array([9]))[:, 0], x[:, 0])
    np.testing.assert_array_equal(apply_op("ShearY", x, np.array([9]))[:, :, 0], x[:, :, 0])


def test_rotation_then_inversion_makes_exposed_pixels_white():
    x = images(1, 32, 32)
    rotated = apply_op("Rotate", x, np.array([9]))
    assert rotated[0, 0, 0].tolist() == [0, 0, 0, 0]
    assert apply_op("Invert", rotated, np.array([0]))[0, 0, 0].tolist() == [255, 255, 255, 255]


def test_any_kind_and_any_strides():
    x = images(4, 8, 6)
    magnitude = np.array([1, 5, 9, 7])
    expected = apply_op("Rotate", x, magnitude)
    assert type(expected) is np.ndarray
    assert not np.shares_memory(expected, x)
    strided = np.repeat(x, 2, axis=2)[:, :, ::2]
    np.testing.assert_array_equal(apply_op("Rotate", strided, magnitude), expected)
    fortran = np.asfortranarray(x)
    np.testing.assert_array_equal(apply_op("Rotate", fortran, magnitude), expected)
    frozen = x.copy()
    frozen.flags.writeable = False
    np.testing.assert_array_equal(apply_op("Rotate", frozen, magnitude), expected)
    permuted = torch.from_numpy(x).permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    result = apply_op("Rotate", permuted, torch.from_numpy(magnitude))
    assert type(result) is torch.Tensor
    assert result.dtype == torch.uint8
    np.testing.assert_array_equal(result.numpy(), expected)
    np.testing.assert_array_equal(apply_op("Rotate", x, magnitude, threads=3), expected)


def test_each_image_has_its_own_magnitude_sign_and_center():
    x = images(3, 9, 9)
    signs = np.array([1, -1, -1])
    together = apply_op("TranslateY", x, np.array([2, 3, 2]), sign=signs)
    for i, (magnitude, sign) in enumerate([(2, 1), (3, -1), (2, -1)]):
        alone = apply_op("TranslateY", x[i : i + 1], np.array([magnitude]), sign=np.array([sign]))
        np.testing.assert_array_equal(together[i], alone[0])
    cut = apply_op("Cutout", x, np.array([1, 2, 0]), center=np.array([[0, 8], [4, 1], [3, 3]]))
    holes = [np.argwhere(image[..., 3] == 0) for image in np.where(x[..., 3:] == 0, 1, cut)]
    assert [(h.min(axis=0).tolist(), h.max(axis=0).tolist()) for h in holes[:2]] == [
        ([7, 0], [8, 0]),
        ([0, 2], [2, 5]),
    ]
    np.testing.assert_array_equal(cut[2], x[2])


def test_one_magnitude_for_all_and_no_image():
    x = images(3)
    np.testing.assert_array_equal(apply_op("Color", x, 3), apply_op("Color", x, np.array([3, 3, 3])))
    assert apply_op("Color", x[:0], np.zeros(0, int)).shape == (0, 6, 5, 4)


@pytest.mark.parametrize(
    ("arguments", "options", "kind", "words"),
    [
        (("Rotat", images(), 1), {}, InputError, 'Unknown op "Rotat".*Did you mean "Rotate"'),
        (("Rotate", images(), [12, 1, 1]), {}, InputError, '`magnitude` must be an integer from 0 to 9, got 12 '),
        (("Rotate", images(), [-1, 1, 1]), {}, InputError, "from 0 to 9, got -1"),
        (("Rotate", images(), [1.0, 1, 1]), {}, InputTypeError, "`magnitude` must be integers.*float64"),
        (("Rotate", images(), float("nan")), {}, InputTypeError, "`magnitude` must be integers"),
        (("Rotate", images(), True), {}, InputTypeError, "`magnitude` must be integers.*bool"),
        (("Rotate", images(), [1, 1]), {}, InputError, r"`magnitude` must have shape \(3,\), got \(2,\)"),
        (("Rotate", images(), 1), {"sign": [1, 0, 1]}, InputError, r"`sign` must be \+1 or -1, got 0"),
        (("Rotate", images(), 1), {"sign": [1, 2, 1]}, InputError, "`sign` must be an integer from -1 to 1, got 2"),
        (("Cutout", images(), 1), {}, InputError, '`center` must be given for op "Cutout"'),
        (("Cutout", images(), 1), {"center": [[0, 0]]}, InputError, r"`center` must have shape \(3, 2\)"),
        (("Cutout", images(), 1), {"center": [[5, 0]] * 3}, InputError, "within the image of 5 x 6 pixels"),
        (("Cutout", images(), 1), {"center": [[0.5, 0]] * 3}, InputTypeError, "`center` must be integers"),
        (("Rotate", images().astype(np.float32), 1), {}, InputTypeError, "`rgba` must be uint8 .*float32"),
        (("Rotate", images()[0], 1), {}, InputError, r"`rgba` must have shape \(n, h, w, 4\), got \(6, 5, 4\)"),
        (("Rotate", images()[..., :3], 1), {}, InputError, r"got \(3, 6, 5, 3\)"),
        (("Rotate", images().transpose(0, 3, 1, 2), 1), {}, InputError, r"got \(3, 4, 6, 5\)"),
        (("Rotate", images().tolist(), 1), {}, InputTypeError, "array or tensor, got list"),
        (("Rotate", images()[:, :0], 1), {}, InputError, "1 to 8192 pixels high and wide, got 0 x 5"),
        (("Rotate", images(), 1), {"threads": 0}, InputError, "`threads` must be an integer from 1"),
    ],
)  # fmt: skip
def test_bad_input(arguments, options, kind, words):
    with pytest.raises(kind, match=words):
        apply_op(*arguments, **options)
