"""Students of digits and CIFAR-10, 2 and 4 bits, in all forms, reloaded by a process that has only the files."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from trained_networks import Trained

import rolewise as rw
from rolewise.pretrained import save_network

SCRIPT = """
import hashlib, json, sys
from pathlib import Path
import torch
from safetensors.torch import load_file
import rolewise as rw
from rolewise.pretrained import onnx_network
torch.set_num_threads(1)
folder = Path(sys.argv[1])
images = load_file(folder / "images.safetensors")["images"]
found = {}
for bits in ("2", "4"):
    base = folder / bits
    forms = {"float": rw.load_network(base / "float.safetensors"),
             "packed": rw.load_network(base / "packed.safetensors"),
             "hub": rw.from_pretrained(base / "hub"), "onnx": onnx_network(base / "student.onnx", threads=1)}
    for form, model in forms.items():
        with torch.no_grad():
            logits = model(images)
        found[f"{bits} {form}"] = {"sha256": hashlib.sha256(logits.numpy().tobytes()).hexdigest(),
                                   "classes": logits.argmax(1).tolist()}
print(json.dumps(found))
"""


@pytest.mark.parametrize("data", ["digits", "cifar10"])
def test_a_fresh_process_finds_the_same(tmp_path: Path, request: pytest.FixtureRequest, data: str):
    one: Trained = request.getfixturevalue(data)
    images = one.images[:500]
    save_file({"images": images}, tmp_path / "images.safetensors")
    for bits, student in one.students.items():
        base = tmp_path / str(bits)
        base.mkdir()
        save_network(student, base / "float")
        rw.export(student, base / "packed.safetensors")
        rw.save_pretrained(student, base / "hub")
        rw.export(student, base / "student.onnx")
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert len(found) == 8
    for bits, student in one.students.items():
        with torch.no_grad():
            logits = student(images)
        expected = hashlib.sha256(logits.numpy().tobytes()).hexdigest()
        for form in ("float", "packed", "hub"):
            assert found[f"{bits} {form}"]["sha256"] == expected, form
        classes = torch.tensor(found[f"{bits} onnx"]["classes"])
        assert (classes == logits.argmax(1)).float().mean() >= 0.99
