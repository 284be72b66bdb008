"""CIFAR in its published forms: tiny stand-ins for each form and fault."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import tiny_cifar
from tiny_cifar import ROWS

from rolewise.data import Data, cifar, load_data
from rolewise.data.cifar_files import CIFAR
from rolewise.errors import InputError

NAMES = ("cifar10", "cifar100")
PLACES = ("binary", "python", "binary archive", "python archive")


class Tiny:
    """A tiny data set that the package takes for the real one."""

    def __init__(self, name: str, root: Path) -> None:
        self.name, self.root = name, root
        self.spec, self.files = tiny_cifar.tiny(name)
        self.contents = list(tiny_cifar.contents(name).values())

    def put(self, place: str) -> Path:
        """Writes the files of a place; returns the folder or archive."""
        kind, _, archive = place.partition(" ")
        form = self.spec.forms[("binary", "python").index(kind)]
        if not archive:
            return tiny_cifar.write_folder(self.root, form, self.files[kind])
        path = self.root / form.archive
        path.write_bytes(self.files[kind][form.archive])
        return path

    def load(self) -> Data:
        return load_data(self.name, self.root)

    def error(self) -> str:
        with pytest.raises(InputError) as caught:
            _ = self.load().test
        return str(caught.value)


@pytest.fixture(params=NAMES)
def tiny(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tiny:
    made = Tiny(request.param, tmp_path)
    monkeypatch.setitem(CIFAR, request.param, made.spec)  # type: ignore[arg-type]
    return made


@pytest.mark.parametrize("place", PLACES)
def test_every_form_gives_the_same_images(tiny: Tiny, place: str) -> None:
    path = tiny.put(place)
    data = tiny.load()
    assert str(path) in data.source
    for split, batches in ((data.train, tiny.contents[:-1]), (data.test, tiny.contents[-1:])):
        assert len(split) == ROWS * len(batches)
        assert split.ids.tolist() == list(range(len(split)))
        assert split.labels.tolist() == [label for _, labels in batches for label in labels.tolist()]
        pixels = np.vstack([pixels for pixels, _ in batches])
        for image, planes in zip(split.images.numpy(), pixels, strict=True):
            red, green, blue = planes.reshape(3, 32, 32)
            assert np.array_equal(image[..., 0], red)
            assert np.array_equal(image[..., 1], green)
            assert np.array_equal(image[..., 2], blue)
        assert split.classes == CIFAR[tiny.name].classes
        assert (split.mean, split.std) == CIFAR[tiny.name].constants[50000]


def test_binary_comes_first_and_unpacked_before_archives(tiny: Tiny) -> None:
    for place in reversed(("binary", "python", "binary archive", "python archive")):
        path = tiny.put(place)
        assert str(path) in tiny.load().source


def test_the_folder_itself_may_be_the_root(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.root = tiny.put("python")
    assert len(tiny.load().test) == ROWS
    monkeypatch.chdir(tiny.root)
    assert len(load_data(tiny.name, ".").test) == ROWS


def test_a_home_directory_is_understood(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.put("binary")
    monkeypatch.setenv("HOME", str(tiny.root))
    assert len(load_data(tiny.name, "~").test) == ROWS


def test_no_root_and_an_empty_root(tiny: Tiny) -> None:
    words = tiny.error()
    assert words.startswith(f"{tiny.root}: holds none of {tiny.spec.forms[0].folder}, ")
    assert f'"rolewise data fetch {tiny.name} --data-root {tiny.root}" gets {tiny.spec.title}.' in words
    tiny.root /= "nowhere"
    assert f"`root` must be a folder that holds {tiny.spec.title}, but {tiny.root} is none" in tiny.error()


@pytest.mark.parametrize("kind", ["binary", "python"])
def test_a_missing_file_is_named_before_anything_is_read(tiny: Tiny, kind: str) -> None:
    folder = tiny.put(kind)
    form = tiny.spec.forms[("binary", "python").index(kind)]
    (folder / form.test.name).unlink()
    assert tiny.error().startswith(
        f"{folder}: lacks {form.test.name}. Put them there, or remove {folder} so that"
    )


@pytest.mark.parametrize("kind", ["binary", "python"])
@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize("fault", ["flipped bit", "truncated", "empty"])
def test_damaged_files_are_found_by_their_digest(tiny: Tiny, kind: str, part: str, fault: str) -> None:
    folder = tiny.put(kind)
    form = tiny.spec.forms[("binary", "python").index(kind)]
    path = folder / (form.test.name if part == "test" else form.train[-1].name)
    raw = bytearray(path.read_bytes())
    if fault == "flipped bit":
        raw[len(raw) // 2] ^= 4
    path.write_bytes(raw if fault == "flipped bit" else raw[: len(raw) // 2] if fault == "truncated" else b"")
    words = tiny.error()
    kind_of_sum = {"binary": "SHA256", "python": "MD5"}[kind]
    assert words.startswith(f"{path}: is damaged or not the published file: its {kind_of_sum} is ")
    assert "Delete it; " in words
    if part == "test":
        assert len(tiny.load().train) == ROWS * len(form.train)  # which needs no test file


def test_a_damaged_archive_is_found_before_it_is_unpacked(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tiny.put("python archive")
    path.write_bytes(path.read_bytes()[:-1])
    monkeypatch.setattr(cifar, "read_members", None)
    assert tiny.error().startswith(f"{path}: is damaged or not the published file: its MD5 is ")


def test_a_file_of_absurd_size_is_not_read(tiny: Tiny) -> None:
    folder = tiny.put("python")
    path = folder / tiny.spec.forms[1].train[0].name
    with path.open("wb") as stream:
        stream.truncate(2**40)  # takes no room on the disk
    assert tiny.error().startswith(f"{path}: has more than {ROWS * 6400:,} bytes; ")


@pytest.mark.parametrize("place", ["binary", "binary archive"])
def test_a_file_that_may_not_be_read(tiny: Tiny, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    path = tiny.put(place)

    def denied(path: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", denied)
    monkeypatch.setattr(Path, "open", denied)
    file = path if path.is_file() else path / tiny.spec.forms[0].train[0].name
    assert tiny.error() == f"{file}: cannot be read: Permission denied."


PIXELS = np.zeros((ROWS, 3072), np.uint8)
LABELS = [1] * ROWS


@pytest.mark.parametrize(
    ("pixels", "labels", "words"),
    [
        (PIXELS, [1] * (ROWS - 1) + [10], "labels must lie in 0..9, got 1..10."),
        (PIXELS, [1] * (ROWS - 1) + [-1], "labels must lie in 0..9, got -1..1."),
        (PIXELS, LABELS[1:], f"`labels` must be a list of {ROWS} integers."),
        (PIXELS, [True] * ROWS, f"`labels` must be a list of {ROWS} integers."),
        (PIXELS, ["1"] * ROWS, f"`labels` must be a list of {ROWS} integers."),
        (PIXELS, tuple(LABELS), f"`labels` must be a list of {ROWS} integers."),
        (PIXELS[1:], LABELS, f"`data` must be an array of shape ({ROWS}, 3072), got ({ROWS - 1}, 3072)."),
        (
            PIXELS.reshape(ROWS, 32, 96),
            LABELS,
            f"must be an array of shape ({ROWS}, 3072), got ({ROWS}, 32, 96).",
        ),
        (PIXELS.reshape(-1), LABELS, f"must be an array of shape ({ROWS}, 3072), got ({ROWS * 3072},)."),
        ([[0] * 3072] * ROWS, LABELS, f"`data` must be an array of shape ({ROWS}, 3072), got list."),
        (PIXELS.astype(np.float32), LABELS, "the pickle makes something other than an array of uint8"),
        (PIXELS.astype(np.int8), LABELS, "the pickle makes something other than an array of uint8"),
        (PIXELS.astype(object), LABELS, "the pickle makes something other than an array of uint8"),
    ],
)
def test_what_a_batch_must_hold(pixels: object, labels: object, words: str) -> None:
    spec = CIFAR["cifar10"]
    raw = tiny_cifar.python_file(spec, pixels, labels)
    with pytest.raises(InputError) as caught:
        cifar.decode_python(raw, "batch", spec, ROWS)
    assert str(caught.value).startswith("batch: ")
    assert words in str(caught.value)


def test_a_batch_must_be_a_dictionary_with_its_keys() -> None:
    raw = tiny_cifar.python_file(CIFAR["cifar10"], PIXELS, LABELS)
    with pytest.raises(InputError, match="batch: must be a dictionary with `data` and `fine_labels`"):
        cifar.decode_python(raw, "batch", CIFAR["cifar100"], ROWS)
    with pytest.raises(InputError, match="batch: must be a dictionary with `data` and `labels`"):
        cifar.decode_python(b"\x80\x02].", "batch", CIFAR["cifar10"], ROWS)


@pytest.mark.parametrize("name", NAMES)
def test_what_binary_records_must_hold(name: str) -> None:
    spec = CIFAR[name]
    size = ROWS * (spec.label_bytes + 3072)
    raw = tiny_cifar.binary_file(spec, PIXELS, np.full(ROWS, 7))
    assert cifar.decode_binary(raw, "batch", spec, ROWS)[1].tolist() == [7] * ROWS
    with pytest.raises(InputError, match=f"batch: must have {size:,} bytes .12 images., has {size - 1:,}"):
        cifar.decode_binary(raw[:-1], "batch", spec, ROWS)
    high = len(spec.classes)
    raw = tiny_cifar.binary_file(spec, PIXELS, np.full(ROWS, high))
    with pytest.raises(InputError, match=f"labels must lie in 0..{high - 1}, got {high}..{high}"):
        cifar.decode_binary(raw, "batch", spec, ROWS)


_opened: list[str] | None = None
_hooked = False


@contextmanager
def opened_files() -> Iterator[list[str]]:
    """Paths of all files that Python opens meanwhile, whichever way."""
    global _opened, _hooked

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if _opened is not None and event in ("open", "os.scandir", "os.listdir"):
            _opened.append(str(arguments[0]))

    if not _hooked:  # an audit hook cannot be taken away
        sys.addaudithook(hook)
        _hooked = True
    _opened = []
    try:
        yield _opened
    finally:
        _opened = None


@pytest.mark.parametrize("kind", ["binary", "python"])
def test_no_test_file_is_opened_before_the_first_access(tiny: Tiny, kind: str) -> None:
    folder = tiny.put(kind)
    form = tiny.spec.forms[("binary", "python").index(kind)]
    test_file = str(folder / form.test.name)
    with opened_files() as paths:
        data = tiny.load()
        data.reduced(8, 4)
        data.fingerprint()
        assert str(folder / form.train[0].name) in paths  # the hook works
        assert test_file not in paths
        _ = data.test
        assert test_file in paths


def test_the_table_of_files_is_consistent() -> None:
    for name, spec in CIFAR.items():
        assert spec.name == name
        for form in spec.forms:
            assert sum(file.rows for file in form.train) == 50000
            assert form.test.rows == 10000
            assert len(form.archive_md5) == 32
            assert {len(file.digest) for file in form.files} == {32 if form.kind == "python" else 64}
        assert [form.kind for form in spec.forms] == ["binary", "python"]
        assert len(spec.classes) == len(set(spec.classes)) == int(name.removeprefix("cifar"))
