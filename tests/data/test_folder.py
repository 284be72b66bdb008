"""Folders of images: order, sizes, every mode Pillow has, depth, orientation, animation."""

import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from image_folders import error, load, picture
from PIL import Image, ImageOps

from rolewise.data import image_file


def test_images_come_by_class_and_name_unchanged(root: Path) -> None:
    data = load(root)
    assert data.classes == ("cat", "dog")
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.train.ids.tolist() == [0, 1, 2, 3, 4, 5]
    assert data.test.labels.tolist() == [0, 1]
    for image, path in zip(data.train.images, sorted((root / "train").rglob("*.png")), strict=True):
        assert np.array_equal(image.numpy(), np.asarray(Image.open(path)))
    assert data.source == f"images in {root}"
    assert data.skipped == []
    assert [len(split) for split in data.reduced()] == [1, 3]  # 10 % and 50 %


def test_constants_are_those_of_the_training_images(root: Path) -> None:
    data = load(root)
    pixels = data.train.images.numpy().astype(np.float64) / 255
    assert data.train.mean == data.test.mean == pytest.approx(pixels.mean((0, 1, 2)), rel=1e-12)
    assert data.train.std == data.test.std == pytest.approx(pixels.std((0, 1, 2)), rel=1e-10)


def test_the_order_does_not_depend_on_that_of_the_file_system(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load(root)
    listed = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda path: iter(sorted(listed(path), reverse=True)))
    assert load(root).fingerprint() == first.fingerprint()


def test_test_images_are_opened_at_first_access(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []
    original = Path.open

    def watching(path: Path, *arguments: object, **options: object) -> object:
        opened.append(path)
        return original(path, *arguments, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", watching)
    data = load(root)
    data.reduced(2, 2)
    assert len(opened) == 6
    assert not [path for path in opened if path.is_relative_to(root / "test")]
    assert len(data.test) == 2
    assert len(opened) == 8


@pytest.mark.parametrize("size", [1, 20, 48])
def test_sizes_are_brought_to_one(root: Path, size: int) -> None:
    picture(1, 100, 40).save(root / "train" / "cat" / "9.png")
    data = load(root, size)
    assert data.train.image_size == (size, size)
    expected = picture(1, 100, 40).crop((30, 0, 70, 40)).resize((size, size), Image.Resampling.BILINEAR)
    assert np.array_equal(data.train.images[3].numpy(), np.asarray(expected))


def rgb(image: Image.Image) -> np.ndarray:
    return np.asarray(image_file.to_rgb(image))


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"]
)
def test_every_mode_becomes_rgb_as_pillow_does(mode: str) -> None:
    source = picture(3).convert("RGBA" if mode in ("LA", "La", "PA", "RGBa") else "RGB")
    image = source.convert("LA").convert(mode) if mode in ("La", "PA") else source.convert(mode)
    assert image.mode == mode
    direct = image.convert("LA") if mode == "La" else image  # which Pillow does not convert to RGB
    assert np.array_equal(rgb(image), np.asarray(direct.convert("RGB")))
    gray = np.asarray(source.convert("RGB").convert("L")).astype(int)
    if mode not in ("1", "P"):  # the picture is still the picture
        assert np.abs(np.asarray(image_file.to_rgb(image).convert("L")).astype(int) - gray).mean() < 6


def test_every_mode_of_pillow_is_covered() -> None:
    for mode in Image.MODES:
        assert image_file.to_rgb(Image.new(mode, (3, 2))).mode == "RGB"
    assert len(Image.MODES) >= 10


def test_sixteen_bits_are_scaled_and_not_clipped() -> None:
    values = np.array([[0, 1, 128, 257], [12850, 32768, 65534, 65535]], np.uint16)
    expected = np.floor(values / 65535 * 255 + 0.5).astype(np.uint8)
    for byte_order in ("<u2", ">u2"):
        raw = values.astype(byte_order).tobytes()
        mode = "I;16" if byte_order == "<u2" else "I;16B"
        got = rgb(Image.frombytes(mode, (4, 2), raw))
        assert np.array_equal(got, np.repeat(expected[..., None], 3, -1))


@pytest.mark.parametrize(
    ("mode", "values", "expected"),
    [
        ("I", [0, 257, 65535], [0, 1, 255]),
        ("I", [0, 100, 200], [0, 0, 1]),  # within 16 bits: the scale is not that of this one image
        ("I", [-10, 0, 90], [0, 26, 255]),
        ("I", [0, 2**30, 2**31 - 1], [0, 128, 255]),
        ("I", [-7, -7, -7], [0, 0, 0]),
        ("F", [0.0, 0.25, 1.0], [0, 64, 255]),
        ("F", [0.0, 100.4, 255.0], [0, 100, 255]),
        ("F", [-1.0, 0.0, 1.0], [0, 128, 255]),
        ("F", [0.0, 500.0, 1000.0], [0, 128, 255]),
    ],
)
def test_deep_grays_are_scaled(mode: str, values: list[float], expected: list[int]) -> None:
    array = np.array([values], np.int32 if mode == "I" else np.float32)
    image = Image.fromarray(array)
    assert image.mode == mode
    assert rgb(image)[0, :, 0].tolist() == expected


def test_sixteen_bit_files(root: Path) -> None:
    values = (np.arange(1024, dtype=np.uint16).reshape(32, 32) * 64).astype(np.uint16)
    Image.fromarray(values).save(root / "train" / "cat" / "3.png")
    Image.fromarray(values).save(root / "train" / "cat" / "4.tiff")
    (root / "train" / "cat" / "5.pgm").write_bytes(b"P5 32 32 65535\n" + values.astype(">u2").tobytes())
    images = load(root).train.images
    expected = np.floor(values / 65535 * 255 + 0.5).astype(np.uint8)
    for position in (3, 4, 5):
        assert np.array_equal(images[position, ..., 1].numpy(), expected)


def test_values_that_are_not_finite(root: Path) -> None:
    array = np.full((32, 32), np.nan, np.float32)
    Image.fromarray(array).save(root / "train" / "cat" / "nan.tiff")
    assert "cat/nan.tiff (holds values that are not finite)" in error(root)


def test_pictures_are_turned_as_their_camera_says(root: Path) -> None:
    picture(4).save(root / "train" / "cat" / "3.png", exif=exif(6))
    images = load(root).train.images
    # Orientation 6: the top of the scene is at the right of the stored picture, so turn it clockwise.
    assert np.array_equal(images[3].numpy(), np.rot90(np.asarray(picture(4)), -1))


def exif(orientation: int) -> Image.Exif:
    made = Image.Exif()
    made[0x0112] = orientation
    return made


@pytest.mark.parametrize("suffix", ["gif", "png", "webp"])
def test_an_animation_gives_its_first_frame(root: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (32, 32), color) for color in ((200, 0, 0), (0, 200, 0))]
    path = root / "train" / "cat" / f"3.{suffix}"
    frames[0].save(
        path, save_all=True, append_images=frames[1:], **({"lossless": True} if suffix == "webp" else {})
    )
    assert load(root).train.images[3, 5, 5].tolist() == [200, 0, 0]


def test_a_palette_with_transparency(root: Path) -> None:
    image = picture(5).convert("P")
    image.save(root / "train" / "cat" / "3.png", transparency=bytes(range(256)))
    assert np.array_equal(load(root).train.images[3].numpy(), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(41, 30), (30, 41), (41, 29), (29, 41), (30, 30)])
def test_the_middle_square_of_a_turned_picture_is_pillows(tmp_path: Path, orientation: int, size) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.png"
    picture(orientation, *size).save(path, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(path))
    side = min(size)
    left, top = (upright.width - side) // 2, (upright.height - side) // 2
    middle = upright.crop((left, top, left + side, top + side)).resize((16, 16), Image.Resampling.BILINEAR)
    assert np.array_equal(image_file.read_image(path, 16), np.array(middle))


def test_odd_exif_entries_do_not_matter(tmp_path: Path) -> None:
    """A resolution that is text, and a block that is cut off: viewers show such photos."""
    plain, path = tmp_path / "plain.jpg", tmp_path / "photo.jpg"
    picture(1, 60, 40).save(plain)
    jpeg = plain.read_bytes()
    turned = struct.pack("<HHI4s", 0x0112, 3, 1, b"\x06\0\0\0")
    text = struct.pack("<HHI4s", 0x011A, 2, 3, b"72\0\0")
    header = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2)
    right = image_file.read_image(plain, 16)
    for exif, expected in ((turned + text + struct.pack("<I", 0), np.rot90(right, -1)), (turned[:7], right)):
        block = header + exif
        path.write_bytes(jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + jpeg[2:])
        found = image_file.read_image(path, 16).astype(int)
        assert np.abs(found - expected).max() <= 1  # turned before or after scaling: one rounding


def test_a_large_picture_takes_little_more_than_its_pixels(tmp_path: Path) -> None:
    """Pillow's own memory is seen by no Python tool, so the process's high-water mark is compared in a child."""
    path = tmp_path / "large.png"
    Image.new("I;16", (6000, 4000), 300).save(path, compress_level=1)
    program = (
        "import resource, sys; from pathlib import Path; from rolewise.data import image_file\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"image_file.read_image(Path({str(path)!r}), 32)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) * 1024 < 24e6 * 10  # 24 megapixels; 40 bytes for each before
