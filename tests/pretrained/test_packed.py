"""Packed weights against an unpacker that shares no code with the package; and their size."""

from pathlib import Path

import numpy as np
import packed_files
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from trained_networks import Trained, accuracy

from rolewise.networks import build
from rolewise.pretrained import export, load_network, save_network
from rolewise.pretrained.packing import pack, packed_bytes, unpack
from rolewise.quant import quantize
from rolewise.quant.layers import quantized_weights


@given(
    st.integers(1, 8).flatmap(
        lambda k: st.tuples(st.just(k), st.lists(st.integers(0, 2**k - 1), max_size=40))
    )
)
def test_packing_round_trip(case: tuple[int, list[int]]):
    bits, values = case
    codes = np.array(values, np.uint8)
    packed = pack(codes, bits)
    assert packed.dtype == np.uint8
    assert len(packed) == packed_bytes(len(values), bits) == -(-len(values) * bits // 8)
    assert np.array_equal(unpack(packed, bits, len(values)), codes)
    assert np.array_equal(packed_files.unpack(packed, bits, [len(values)]), codes)


def test_the_layout_by_hand():
    assert pack(np.array([1, 2, 3], np.uint8), 4).tolist() == [0x21, 0x03]
    assert pack(np.array([1, 2, 3, 0, 2], np.uint8), 2).tolist() == [0b00111001, 0b10]
    assert pack(np.array([5, 3], np.uint8), 3).tolist() == [0b011101]


@pytest.mark.parametrize(
    ("method", "bits"), [("dorefa", bits) for bits in range(1, 9)] + [("lsq", 2), ("lsq", 5), ("pact", 3)]
)
def test_an_independent_reader_finds_the_quantized_weights(tmp_path: Path, method: str, bits: int):
    model = quantize(build("cnn-tiny", seed=bits), bits, 2, method=method)
    path = save_network(model, tmp_path / "net", packed=True)
    found = packed_files.weights(path)
    layers = quantized_weights(model)
    assert set(found) == set(layers)
    for name, layer in layers.items():
        assert found[name].tobytes() == layer.quantized_weight().detach().numpy().tobytes()
    arrays, _ = packed_files.read(path)
    for name, layer in layers.items():
        assert arrays[f"{name}.weight.codes"].nbytes == -(-layer.weight.numel() * bits // 8)
        assert f"{name}.weight" not in arrays


@pytest.mark.parametrize(("bits", "factor"), [(2, 13), (4, 7)])
def test_the_whole_file_is_small(tmp_path: Path, bits: int, factor: int):
    """ResNet18, stem, classifier, BatchNorm and header included, against the float32 bytes of the quantized layers."""
    path = export(quantize(build("resnet18"), bits, bits), tmp_path / "student.safetensors")
    assert path.stat().st_size <= 4 * 11_157_504 / factor
    arrays, _ = packed_files.read(path)
    assert (
        sum(array.nbytes for name, array in arrays.items() if name.endswith(".codes"))
        == 11_157_504 * bits / 8
    )


@pytest.mark.parametrize("bits", [2, 4])
def test_a_trained_student_keeps_its_logits(tmp_path: Path, digits: Trained, bits: int):
    student = digits.students[bits]
    found = load_network(export(student, tmp_path / "student.safetensors"))
    with torch.no_grad():
        assert torch.equal(found(digits.images[:500]), student(digits.images[:500]))
    print(f"\n{bits}-bit {digits.name}: accuracy {accuracy(found, digits.images, digits.labels):.4f}")
    assert accuracy(found, digits.images, digits.labels) > {2: 0.7, 4: 0.9}[bits]


def test_fine_tuning_a_float_file_goes_on(tmp_path: Path):
    """A float file holds the float weights, so training can continue; a packed one holds only the levels."""
    model = quantize(build("cnn-tiny"), 2, 2)
    full = load_network(save_network(model, tmp_path / "full")).train()
    full(torch.randn(2, 3, 32, 32)).sum().backward()
    assert full.layer1[0].conv1.weight.grad.any()
    packed = load_network(save_network(model, tmp_path / "packed", packed=True))
    assert len(packed.layer1[0].conv1.weight.unique()) <= 4
