"""What `rolewise doctor` says: readable numbers, and installation commands that work where they are given."""

from pathlib import Path

import pytest

from rolewise import doctor, errors


def test_memory_is_readable_and_openvino_is_asked_for() -> None:
    found = doctor.examine()
    assert found["environment"]["hardware"]["memory"].endswith(" GB")
    assert set(found["optional packages"]) >= {"ray", "onnx", "onnxruntime", "openvino", "tensorboard"}
    assert found["compiled augmentation"] == "works"


def test_the_commands_are_those_of_a_clone_or_of_a_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(errors, "__file__", str(tmp_path / "src" / "rolewise" / "errors.py"))
    assert doctor._state("no_such_package", "hub") == 'not installed: pip install "rolewise[hub]"'
    assert str(errors.missing_extra("Export", "onnx", "export")).endswith(': pip install "rolewise[export]".')
    (tmp_path / "pyproject.toml").touch()
    assert str(errors.missing_extra("Export", "onnx", "export")).endswith(f"-e '{tmp_path}[export]'.")
    assert doctor._state("no_such_package", "hub") == f"not installed: pip install -e '{tmp_path}[hub]'"
    assert "does not need it" in doctor._state("no_such_package", "vision")
