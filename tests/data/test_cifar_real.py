"""The real CIFAR files, where they are at hand: read right, and the constants and digests that the package states."""

import hashlib
import pickletools
from pathlib import Path

import numpy as np
import pytest
import torch

from rolewise.data import Data, channel_statistics, load_data
from rolewise.data.cifar_files import CIFAR, Cifar

NAMES = ("cifar10", "cifar100")


@pytest.fixture(scope="module")
def roots(cifar10_root: Path, cifar100_root: Path) -> dict[str, Path]:
    return {"cifar10": cifar10_root, "cifar100": cifar100_root}


@pytest.fixture(scope="module")
def real(roots: dict[str, Path]) -> dict[str, Data]:
    return {name: load_data(name, roots[name]) for name in NAMES}


def raw_pixels(raw: bytes, rows: int) -> np.ndarray:
    """The pixels of a published Python file, found by their length prefix and by no reader of ours."""
    size = rows * 3072
    start = raw.index(b"T" + size.to_bytes(4, "little")) + 5
    return np.frombuffer(raw, np.uint8, size, start).reshape(rows, 3, 32, 32)


def raw_labels(raw: bytes, key: str) -> list[int]:
    """The labels of a published Python file by the standard library's disassembler, which runs nothing."""
    labels: list[int] = []
    found = False
    # Pixels stand before or after; the disassembler needs not see them.
    for op, argument, _ in pickletools.genops(raw):
        if found and op.name in ("BININT1", "BININT2"):
            labels.append(argument)
        elif found and op.name in ("SHORT_BINSTRING", "SETITEMS"):
            return labels
        found = found or (op.name == "SHORT_BINSTRING" and argument == key)
    raise AssertionError(f"{key} is not there")


@pytest.mark.parametrize("name", NAMES)
def test_the_real_test_part_is_read_right(real: dict[str, Data], roots: dict[str, Path], name: str) -> None:
    form, data = CIFAR[name].forms[1], real[name]
    raw = (roots[name] / form.folder / form.test.name).read_bytes()
    assert torch.equal(
        data.test.images, torch.from_numpy(raw_pixels(raw, 10000).transpose(0, 2, 3, 1).copy())
    )
    assert data.test.labels.tolist() == raw_labels(raw, CIFAR[name].label_key)
    assert data.test.labels.bincount().tolist() == [10000 // len(data.classes)] * len(data.classes)


@pytest.mark.parametrize("name", NAMES)
def test_the_real_training_part_is_in_order(real: dict[str, Data], roots: dict[str, Path], name: str) -> None:
    form, data = CIFAR[name].forms[1], real[name]
    assert data.train.images.shape == (50000, 32, 32, 3)
    assert data.train.labels.bincount().tolist() == [50000 // len(data.classes)] * len(data.classes)
    start = 0
    for file in form.train:
        pixels = raw_pixels((roots[name] / form.folder / file.name).read_bytes(), file.rows)
        for position in (0, 1, file.rows // 2, file.rows - 1):
            ours = data.train.images[start + position].numpy()
            assert np.array_equal(ours, pixels[position].transpose(1, 2, 0))
        start += file.rows


def test_the_classes_are_those_of_the_data_sets(roots: dict[str, Path]) -> None:
    for name, file, key in (
        ("cifar10", "batches.meta", "label_names"),
        ("cifar100", "meta", "fine_label_names"),
    ):
        raw = (roots[name] / CIFAR[name].forms[1].folder / file).read_bytes()
        words = [arg for op, arg, _ in pickletools.genops(raw) if op.name == "SHORT_BINSTRING"]
        start = words.index(key) + 1
        assert tuple(words[start : start + len(CIFAR[name].classes)]) == CIFAR[name].classes


def records(split_labels: np.ndarray, pixels: np.ndarray, coarse: np.ndarray | None) -> bytes:
    columns = [split_labels[:, None].astype(np.uint8), pixels.reshape(len(pixels), 3072)]
    return np.hstack(columns if coarse is None else [coarse[:, None].astype(np.uint8), *columns]).tobytes()


def check_binary_digest(roots: dict[str, Path], spec: Cifar, position: int) -> None:
    binary, python = (form.files[position] for form in spec.forms)
    raw = (roots[spec.name] / spec.forms[1].folder / python.name).read_bytes()
    assert hashlib.md5(raw).hexdigest() == python.digest  # as published
    labels = np.array(raw_labels(raw, spec.label_key))
    coarse = np.array(raw_labels(raw, "coarse_labels")) if spec.label_bytes == 2 else None
    content = records(labels, raw_pixels(raw, python.rows), coarse)
    assert hashlib.sha256(content).hexdigest() == binary.digest
    assert binary.rows == python.rows


@pytest.mark.parametrize("position", range(6))
def test_digests_of_binary_files_of_cifar10(roots: dict[str, Path], position: int) -> None:
    check_binary_digest(roots, CIFAR["cifar10"], position)


@pytest.mark.parametrize("position", range(2))
def test_digests_of_binary_files_of_cifar100(roots: dict[str, Path], position: int) -> None:
    check_binary_digest(roots, CIFAR["cifar100"], position)


def test_the_published_constants_are_those_of_the_images(real: dict[str, Data]) -> None:
    for data in real.values():
        mean, std = channel_statistics(data.train.images)
        assert data.train.mean == pytest.approx(mean, abs=1e-8)
        assert data.train.std == pytest.approx(std, abs=1e-8)
    # That these two agree also shows that the shuffle is the published one.
    train, validation = real["cifar10"].reduced()
    mean, std = channel_statistics(train.images)
    assert train.mean == pytest.approx(mean, abs=1e-8)
    assert train.std == pytest.approx(std, abs=1e-8)
    assert (len(train), len(validation)) == (4000, 36000)
    assert validation.mean == train.mean != real["cifar10"].train.mean
    assert not set(train.ids.tolist()) & set(validation.ids.tolist())
    train, _ = real["cifar100"].reduced()
    assert (train.mean, train.std) == (real["cifar100"].train.mean, real["cifar100"].train.std)
