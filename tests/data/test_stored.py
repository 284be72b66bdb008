"""Images stored larger than networks see them, and in mapped files: parts, processes, damage, staleness."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from image_folders import picture
from PIL import Image

from rolewise.data import Split, load_data, store
from rolewise.data.images import StoredImages
from rolewise.errors import InputError
from rolewise.population.transport import pack, split_tensors, unpack


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of photos of different forms."""
    for part, count in (("train", 6), ("test", 3)):
        for name in ("cat", "dog"):
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(count):
                image = picture(number + 10 * len(part), 50 + 7 * number, 61)
                image.save(tmp_path / part / name / f"{number}.png")
    return tmp_path


def square(path: Path, side: int) -> np.ndarray:
    image = Image.open(path)
    edge = min(image.size)
    left, top = (image.width - edge) // 2, (image.height - edge) // 2
    cut = image.crop((left, top, left + edge, top + edge))
    return np.array(cut.resize((side, side), Image.Resampling.BILINEAR))


@pytest.mark.parametrize("choice", ["never", "always"])
def test_resize_then_crop(photos, choice):
    data = load_data("folder", photos, size=20, resize=26, store=choice)
    assert data.train.image_size == (20, 20)
    assert data.train.images.source.shape == (12, 26, 26, 3)
    for part, split in (("train", data.train), ("test", data.test)):
        for image, path in zip(split.images[:], sorted((photos / part).rglob("*.png")), strict=True):
            assert np.array_equal(image.numpy(), square(path, 26)[3:23, 3:23])
    stored = np.stack([square(path, 26) for path in sorted((photos / "train").rglob("*.png"))]) / 255
    assert data.train.mean == data.test.mean == pytest.approx(stored.mean((0, 1, 2)), rel=1e-12)


def test_a_store_holds_the_same_split_and_is_made_once(photos, monkeypatch):
    plain = load_data("folder", photos, size=24)
    mapped = load_data("folder", photos, size=24, store="always")
    assert isinstance(mapped.train.images, StoredImages)
    assert len(mapped.test) == len(plain.test) == 6
    monkeypatch.setattr("rolewise.data.folder.read_image", lambda *_, **__: pytest.fail("decoded again"))
    again = load_data("folder", photos, size=24, store="always")
    for data in (mapped, again):
        assert torch.equal(data.train.images[:], plain.train.images)
        assert torch.equal(data.test.images[:], plain.test.images)
        assert data.fingerprint() == plain.fingerprint()
        assert (data.train.mean, data.train.std) == (plain.train.mean, plain.train.std)
        for mine, theirs in zip(data.reduced(4, 6), plain.reduced(4, 6), strict=True):
            assert torch.equal(mine.images[:], theirs.images)
            assert mine.labels.tolist() == theirs.labels.tolist()
            assert (mine.mean, mine.std) == (theirs.mean, theirs.std)
            assert mine.images.source.data_ptr() == data.train.images.source.data_ptr()  # nothing was copied
    assert "mapped from" in repr(mapped.train.images)
    assert repr(mapped.train) == "Split(12 RGB images, 24 x 24, 2 classes)"


def test_a_store_is_made_where_the_images_are_large(photos, monkeypatch):
    monkeypatch.setattr("rolewise.data.folder.LARGE", 12 * 24 * 24 * 3)
    monkeypatch.setattr(store, "LARGE", 12 * 24 * 24 * 3)
    data = load_data("folder", photos, size=24)
    assert isinstance(data.train.images, StoredImages)
    assert isinstance(data.test.images, torch.Tensor)  # 6 images are few
    assert len(list((photos / ".rolewise").glob("train-*.uint8"))) == 1
    assert isinstance(load_data("folder", photos, size=23).train.images, torch.Tensor)


def test_changed_images_make_another_store(photos):
    first = load_data("folder", photos, size=24, store="always").fingerprint()
    picture(99, 50, 61).save(photos / "train" / "cat" / "0.png")
    assert load_data("folder", photos, size=24, store="always").fingerprint() != first
    assert load_data("folder", photos, size=24).fingerprint() != first


def test_left_out_files_are_remembered(photos):
    (photos / "train" / "cat" / "bad.png").write_bytes(b"no image")
    for _ in range(2):
        with pytest.warns(UserWarning, match=r"1 file is left out: cat/bad.png"):
            data = load_data("folder", photos, size=24, store="always", skip_bad=True)
        assert data.skipped == ["train/cat/bad.png (no image of a known format)"]
    with pytest.raises(InputError, match=r"1 of 13 files cannot be used"):
        load_data("folder", photos, size=24, store="always")
    assert not [path for path in (photos / ".rolewise").iterdir() if path.name.startswith(".")]


def test_a_damaged_store_is_refused_and_a_lost_description_made_again(photos):
    load_data("folder", photos, size=24, store="always")
    file = next((photos / ".rolewise").glob("train-*.uint8"))
    content = bytearray(file.read_bytes())
    content[1000] ^= 1
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"is damaged \(its SHA-256 is .*Delete it and train-.*json"):
        load_data("folder", photos, size=24, store="always")
    file.with_suffix(".json").write_text("{}")
    assert len(load_data("folder", photos, size=24, store="always").train) == 12
    stated = json.loads(file.with_suffix(".json").read_text())
    stated["labels"] = stated["labels"][:3]
    file.with_suffix(".json").write_text(json.dumps(stated))
    assert len(load_data("folder", photos, size=24, store="always").train) == 12


def test_a_description_that_lacks_a_part_is_made_again(photos):
    load_data("folder", photos, size=24, store="always")
    file = next((photos / ".rolewise").glob("train-*.json"))
    whole = file.read_bytes()
    for name in ("sha256", "mean", "std", "skipped"):
        file.write_text(json.dumps({key: value for key, value in json.loads(whole).items() if key != name}))
        assert len(load_data("folder", photos, size=24, store="always").train) == 12
        assert file.read_bytes() == whole


def test_what_a_kill_left_is_removed(photos):
    load_data("folder", photos, size=24, store="always")
    file = next((photos / ".rolewise").glob("train-*.json"))
    left = [file.parent / f".{file.stem}.uint8.abcdefgh", file.parent / f".{file.name}.abcdefgh"]
    other = file.parent / ".train-0123456789ab.uint8.abcdefgh"  # another store's, which may be at work
    for path in (*left, other):
        path.write_text("half")
    file.unlink()
    load_data("folder", photos, size=24, store="always")
    assert not any(path.exists() for path in left)
    assert other.exists()


@pytest.mark.parametrize("choice", ["never", "always"])
def test_a_folder_without_a_usable_image(tmp_path, choice):
    for name in ("train/cat", "train/dog", "test/cat", "test/dog"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "0.png").write_text("no image")
    with (
        pytest.warns(UserWarning, match="2 files are left out"),
        pytest.raises(InputError, match="no images in class cat, dog"),
    ):
        load_data("folder", tmp_path, size=24, store=choice, skip_bad=True)


def test_a_store_elsewhere_and_one_that_cannot_be_written(photos, tmp_path_factory, monkeypatch):
    other = tmp_path_factory.mktemp("fast disk")
    load_data("folder", photos, size=24, store=str(other))
    assert list(other.glob("train-*.uint8"))
    assert not (photos / ".rolewise").exists()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.tempfile, "mkstemp", full)
    with pytest.raises(InputError, match=r"cannot be written \(No space left on device\): choose a folder"):
        load_data("folder", photos, size=24, store="always")


def test_processes_map_the_file_and_share_what_is_in_memory(photos):
    mapped = load_data("folder", photos, size=20, resize=26, store="always").train.subset(
        torch.tensor([3, 1, 7])
    )
    larger = load_data("folder", photos, size=20, resize=26, store="never").train.subset(
        torch.tensor([3, 1, 7])
    )
    for split in (mapped, larger):
        shared = split_tensors(split)
        data = pack(split, shared)
        assert len(data) < 2500  # neither images nor labels travel
        copy: Split = unpack(data, shared)
        assert torch.equal(copy.images[:], split.images[:])
        assert copy.images.rows.tolist() == [3, 1, 7]
    written = pickle.dumps(mapped)  # only written: the project reads no pickles
    assert b"train-" in written
    assert len(written) < 5000
    next((photos / ".rolewise").glob("train-*.uint8")).write_bytes(b"short")
    with pytest.raises(InputError, match=r"must have 24,336 bytes, has 5\. Delete it"):
        mapped.images.file.tensor()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"resize": 10, "size": 20}, "`resize` must be at least `size`, 20, got 10"),
        ({"channels": 2}, r"`channels` must be 3 \(RGB\) or 1 \(gray\), got 2"),
        (
            {"store": "~nosuchuser/x"},
            "`store`: ~nosuchuser/x begins with the folder of a user that this machine does",
        ),
    ],
)
def test_bad_options(photos, options, words):
    with pytest.raises(InputError, match=words):
        load_data("folder", photos, **options)


def test_a_gray_folder_is_pillows_conversion_after_scaling(photos):
    data = load_data("folder", photos, size=24, channels=1)
    rgb = load_data("folder", photos, size=24)
    expected = np.stack([np.array(Image.fromarray(image).convert("L")) for image in rgb.train.images.numpy()])
    assert np.array_equal(data.train.images.numpy()[..., 0], expected)
    assert len(data.train.mean) == 1


@pytest.mark.parametrize("root", ["~nosuchuser/pictures", "x" * 5000, "a\0b"])
def test_roots_that_no_system_can_look_up(root):
    for name in ("folder", "cifar10"):
        with pytest.raises(InputError, match=r"^`root`: .{1,200}$"):
            load_data(name, root)
