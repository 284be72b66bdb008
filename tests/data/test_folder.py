"""Folders of images: every mode Pillow has, and every way in which a file can be bad."""

import os
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rolewise.data import Data, folder, load_data
from rolewise.errors import InputError


def picture(seed: int, width: int = 32, height: int = 32) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes with three training images and one test image each."""
    for number, name in enumerate(("dog", "cat")):
        for part, count in (("train", 3), ("test", 1)):
            place = tmp_path / part / name
            place.mkdir(parents=True)
            for k in range(count):
                picture(100 * number + 10 * len(part) + k).save(place / f"{k}.png")
    return tmp_path


def load(root: Path, size: int = 32, *, skip_bad: bool = False) -> Data:
    return load_data("folder", root, size=size, skip_bad=skip_bad)


def error(root: Path) -> str:
    with pytest.raises(InputError) as caught:
        _ = load(root).test
    return str(caught.value)


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
    return np.asarray(folder.to_rgb(image))


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"]
)
def test_every_mode_becomes_rgb_as_pillow_does(mode: str) -> None:
    source = picture(3).convert("RGBA" if mode in ("LA", "La", "PA", "RGBa") else "RGB")
    image = source.convert("LA").convert(mode) if mode in ("La", "PA") else source.convert(mode)
    assert image.mode == mode
    direct = image.convert("LA") if mode == "La" else image  # which Pillow does not convert to RGB
    assert np.array_equal(rgb(image), np.asarray(direct.convert("RGB")))
    grey = np.asarray(source.convert("RGB").convert("L")).astype(int)
    if mode not in ("1", "P"):  # the picture is still the picture
        assert np.abs(np.asarray(folder.to_rgb(image).convert("L")).astype(int) - grey).mean() < 6


def test_every_mode_of_pillow_is_covered() -> None:
    for mode in Image.MODES:
        assert folder.to_rgb(Image.new(mode, (3, 2))).mode == "RGB"
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
def test_deep_greys_are_scaled(mode: str, values: list[float], expected: list[int]) -> None:
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
    frames = [Image.new("RGB", (32, 32), colour) for colour in ((200, 0, 0), (0, 200, 0))]
    path = root / "train" / "cat" / f"3.{suffix}"
    frames[0].save(
        path, save_all=True, append_images=frames[1:], **({"lossless": True} if suffix == "webp" else {})
    )
    assert load(root).train.images[3, 5, 5].tolist() == [200, 0, 0]


def test_a_palette_with_transparency(root: Path) -> None:
    image = picture(5).convert("P")
    image.save(root / "train" / "cat" / "3.png", transparency=bytes(range(256)))
    assert np.array_equal(load(root).train.images[3].numpy(), np.asarray(image.convert("RGB")))


# ------------------------------------------------------------------ bad files


def png_of_claimed_size(width: int, height: int) -> bytes:
    """A PNG of some bytes whose header claims so many pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )


def make_bad(root: Path) -> dict[str, str]:
    """Puts bad files into `root/train/cat`; what must be said of each, by name."""
    cat = root / "train" / "cat"
    good = (cat / "0.png").read_bytes()
    (cat / "bomb.png").write_bytes(png_of_claimed_size(60_000, 60_000))
    (cat / "cut.png").write_bytes(good[: len(good) // 2])
    (cat / "empty.jpg").write_bytes(b"")
    (cat / "large.png").write_bytes(png_of_claimed_size(10_000, 9_500))
    (cat / "script.eps").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n%%EndComments\nshowpage\n"
    )
    (cat / "text.png").write_text("not an image")
    (cat / "folder").mkdir()
    (cat / "gone.png").symlink_to("nowhere.png")
    (cat / "loop.png").symlink_to("loop.png")
    (cat / "up").symlink_to("..")
    os.mkfifo(cat / "pipe.png")  # opening it would wait for ever
    return {
        "bomb.png": "DecompressionBombError",
        "cut.png": "OSError: ",
        "empty.jpg": "empty",
        "folder": "a folder",
        "gone.png": "no regular file, or a link that leads nowhere",
        "large.png": "DecompressionBombWarning",
        "loop.png": "no regular file, or a link that leads nowhere",
        "pipe.png": "no regular file, or a link that leads nowhere",
        "script.eps": "no image of a known format",
        "text.png": "no image of a known format",
        "up": "a folder",
    }


def test_bad_files_are_an_error_that_names_the_first_and_the_way_out(root: Path) -> None:
    bad = make_bad(root)
    (root / "train" / "list.csv").write_text("beside the classes")
    words = error(root)
    assert words.startswith(
        f"{root / 'train'}: {len(bad) + 1} of {6 + len(bad) + 1} files cannot be used: list.csv ("
    )
    assert "cat/bomb.png (DecompressionBombError" in words
    assert (
        f" and {len(bad) + 1 - 5} more. Mend or remove them, or leave them out with `skip_bad=True`" in words
    )
    assert "(command line: --skip-bad)" in words


def test_bad_files_can_be_left_out_and_are_listed(root: Path) -> None:
    clean = load(root).fingerprint()
    bad = make_bad(root)
    (root / "test" / "dog" / "text.png").write_text("not an image")
    with pytest.warns(
        UserWarning, match=rf"{len(bad)} files are left out: cat/bomb.png \(.* and {len(bad) - 5} more"
    ):
        data = load(root, skip_bad=True)
    assert data.fingerprint() == clean
    assert len(data.skipped) == len(bad)
    for item, (name, why) in zip(data.skipped, bad.items(), strict=True):
        assert item.startswith(f"train/cat/{name} ({why}")
    with pytest.warns(UserWarning, match="1 files are left out: dog/text.png"):
        assert len(data.test) == 2
    assert data.skipped[-1].startswith("test/dog/text.png (no image of a known format)")


def test_bad_test_files_are_an_error_at_first_access(root: Path) -> None:
    (root / "test" / "dog" / "text.png").write_text("not an image")
    data = load(root)
    with pytest.raises(InputError, match="1 of 3 files cannot be used: dog/text.png"):
        _ = data.test


def test_a_file_that_may_not_be_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Path.open

    def denying(path: Path, *arguments: object, **options: object) -> object:
        if path.name == "1.png":
            raise PermissionError(13, "Permission denied")
        return original(path, *arguments, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", denying)
    assert "2 of 6 files cannot be used: cat/1.png (PermissionError: [Errno 13] Permission denied)" in error(
        root
    )


def test_hidden_files_are_not_looked_at(root: Path) -> None:
    clean = load(root).fingerprint()
    (root / "train" / "cat" / ".DS_Store").write_bytes(b"x")
    (root / "train" / ".cache").mkdir()
    assert load(root).fingerprint() == clean


def test_an_empty_class(root: Path) -> None:
    (root / "train" / "emu").mkdir()
    (root / "test" / "emu").mkdir()
    assert f"{root / 'train'}: no images in class emu. Add some, or remove the folder" in error(root)


def test_a_class_of_bad_files_alone_is_empty(root: Path) -> None:
    for path in (root / "train" / "cat").iterdir():
        path.write_bytes(b"")
    with (
        pytest.warns(UserWarning, match="3 files are left out"),
        pytest.raises(InputError, match="no images in class cat"),
    ):
        load(root, skip_bad=True)


def test_classes_of_both_parts_must_agree(root: Path) -> None:
    (root / "train" / "emu").mkdir()
    (root / "test" / "cow").mkdir()
    (root / "test" / "yak").mkdir()
    assert error(root) == (
        f"{root}: train has 3 classes and test 4, which must be the same; "
        "they differ in emu (train alone), cow (test alone), yak (test alone)."
    )


def test_one_class_is_too_few(tmp_path: Path) -> None:
    for part in ("train", "test"):
        (tmp_path / part / "cat").mkdir(parents=True)
    assert f"{tmp_path / 'train'}: must hold at least two folders, one for each class, holds 1." in error(
        tmp_path
    )


def test_a_folder_without_its_parts(tmp_path: Path) -> None:
    assert error(tmp_path) == (
        f"`root` must be a folder with train/<class>/* and test/<class>/*; {tmp_path / 'train'} is none."
    )


@pytest.mark.parametrize("size", [0, 1025])
def test_impossible_sizes(root: Path, size: int) -> None:
    with pytest.raises(InputError, match=f"`size` must be an integer from 1 to 1024, got {size}"):
        load(root, size)


def test_more_images_than_memory(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(folder.np, "empty", full)
    assert f"{root / 'train'}: 6 images of `size` 32 need 18,432 bytes of memory." in error(root)


def test_a_folder_that_may_not_be_listed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", denied)
    assert error(root) == f"{root / 'train'}: cannot be read: Permission denied."


def test_names_in_any_script(root: Path) -> None:
    for part in ("train", "test"):
        (root / part / "dog").rename(root / part / "собака и кот")
    assert load(root).classes == ("cat", "собака и кот")
    assert sys.getfilesystemencoding() == "utf-8"
