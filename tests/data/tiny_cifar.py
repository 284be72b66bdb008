"""Data sets in the layout of CIFAR with a few random images, in every published form, for tests."""

import dataclasses
import hashlib
import io
import pickle
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from rolewise.data.cifar_files import CIFAR, Cifar, Form

ROWS = 12  # images in each file


def contents(name: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """(pixels (n, 3072), fine labels) by the name of the Python form's file, in order; the test file last."""
    spec = CIFAR[name]
    rng = np.random.default_rng(7)
    return {
        file.name: (
            rng.integers(0, 256, (ROWS, 3072), dtype=np.uint8),
            rng.integers(0, len(spec.classes), ROWS),
        )
        for file in spec.forms[1].files
    }


def python_file(spec: Cifar, pixels: object, labels: object) -> bytes:
    """What Python 3 writes for a batch in protocol 2."""
    return pickle.dumps({b"data": pixels, spec.label_key.encode(): labels, b"batch_label": b"tiny"}, 2)


def binary_file(spec: Cifar, pixels: np.ndarray, labels: np.ndarray) -> bytes:
    """Label bytes (coarse first, where there are two), then the pixels, image after image."""
    columns = [labels[:, None].astype(np.uint8)]
    if spec.label_bytes == 2:
        columns.insert(0, (labels[:, None] // 5).astype(np.uint8))
    return np.hstack([*columns, pixels]).tobytes()


def archive(members: Mapping[str, bytes]) -> bytes:
    """A tar.gz."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, raw in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(raw)
            tar.addfile(info, io.BytesIO(raw))
    return out.getvalue()


def tiny(name: str) -> tuple[Cifar, dict[str, dict[str, bytes]]]:
    """The description of a tiny data set (digests included), and the files of each form: kind -> name -> content.

    The archive of a form is among its files, by its own name.
    """
    spec = CIFAR[name]
    batches = list(contents(name).values())
    forms, files = [], {}
    for form in spec.forms:
        write = python_file if form.kind == "python" else binary_file
        raws = [
            write(spec, pixels, labels.tolist() if form.kind == "python" else labels)
            for pixels, labels in batches
        ]
        digests = [hashlib.new(form.digest_kind, raw, usedforsecurity=False).hexdigest() for raw in raws]
        described = [
            dataclasses.replace(file, rows=ROWS, digest=digest)
            for file, digest in zip(form.files, digests, strict=True)
        ]
        named = {file.name: raw for file, raw in zip(form.files, raws, strict=True)}
        packed = archive(
            {f"{form.folder}/{name}": raw for name, raw in {"readme.html": b"hello", **named}.items()}
        )
        files[form.kind] = {**named, form.archive: packed}
        forms.append(
            dataclasses.replace(
                form,
                train=tuple(described[:-1]),
                test=described[-1],
                archive_md5=hashlib.md5(packed).hexdigest(),
            )
        )
    return dataclasses.replace(spec, forms=(forms[0], forms[1])), files


def write_folder(root: Path, form: Form, files: Mapping[str, bytes]) -> Path:
    """Writes the unpacked files of a form."""
    folder = root / form.folder
    folder.mkdir(parents=True)
    for file in form.files:
        (folder / file.name).write_bytes(files[file.name])
    return folder
