"""OpenVINO files: their weights, each layer on its own, the whole on real images, and what runs in which precision."""

import copy
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import openvino
import pytest
import torch
from openvino import opset13
from torch import Tensor, nn
from trained_networks import Trained

from rolewise.errors import InputError, MissingExtraError
from rolewise.networks import build
from rolewise.pretrained import NetworkInfo, Preprocessing, describe, export, openvino_network
from rolewise.pretrained.openvino_file import settings, shared_core
from rolewise.quant import frozen_weights, quantize
from rolewise.quant.activations import quantized_activations
from rolewise.quant.layers import quantized_weights

INTEGER = [(m, bits) for m in ("dorefa", "pact") for bits in range(1, 8)] + [("lsq", b) for b in range(2, 9)]


def decoded(path: Path) -> dict[str, tuple[np.ndarray, float]]:
    """For each weight of the file, its integers and their scale, unpacked with NumPy from the constants."""
    model = openvino.Core().read_model(str(path))
    found = {}
    for node in model.get_ordered_ops():
        name = node.get_friendly_name()
        if node.get_type_name() != "Multiply" or not name.endswith(".weight/Mul"):
            continue
        scale = float(node.input_value(1).get_node().data.item())
        cast = node.input_value(0).get_node()
        source = cast.input_value(0).get_node()
        if source.get_type_name() == "Reshape":
            gather = source.input_value(0).get_node()
            table = gather.input_value(0).get_node().data
            stored = gather.input_value(1).get_node().input_value(0).get_node().data
            integers = table[stored].reshape(source.input_value(1).get_node().data)
        else:
            integers = source.data
        found[name.removesuffix(".weight/Mul")] = integers, scale
    return found


@pytest.mark.parametrize(("method", "bits"), INTEGER)
def test_the_weights_are_pytorchs(tmp_path: Path, method: str, bits: int):
    model = quantize(build("cnn-tiny", seed=bits), bits, 4, method=method)
    found = decoded(export(model, tmp_path / "net.xml"))
    layers = quantized_weights(model)
    assert set(found) == set(layers)
    for name, layer in layers.items():
        integers, scale = found[name]
        expected = layer.quantized_weight().detach().numpy()
        assert integers.dtype == np.int8
        # The levels themselves: the float32 value of a level is a rounding or two away from integer times scale.
        assert np.array_equal(
            np.unique(integers, return_inverse=True)[1], np.unique(expected, return_inverse=True)[1]
        )
        assert np.abs(integers * np.float32(scale) - expected).max() <= 2e-7 * np.abs(expected).max()


@pytest.mark.parametrize(("method", "bits"), INTEGER)
def test_every_quantized_layer_runs_in_8_bit_integers(tmp_path: Path, method: str, bits: int):
    model = quantize(build("cnn-tiny"), bits, bits, method=method)
    network = openvino_network(export(model, tmp_path / "net.xml"), threads=1)  # a warning would be an error
    integer = {layer.name for layer in network.layers if layer.integer}
    assert integer == set(quantized_weights(model))
    assert {layer.precision for layer in network.layers if layer.name not in integer} == {"f32"}


@pytest.mark.parametrize("name", ["resnet8-small", "shufflenetv1", "wrn-16-2", "vgg8"])
def test_grouped_and_plain_networks_run_in_8_bit_integers(tmp_path: Path, name: str):
    model = quantize(build(name), 4, 4)
    network = openvino_network(export(model, tmp_path / "net.xml"), threads=1)
    assert {layer.name for layer in network.layers if layer.integer} == set(quantized_weights(model))


def test_layers_that_run_in_float_are_named(tmp_path: Path):
    wide = export(quantize(build("cnn-tiny"), 8, 8, layers={"layer1": (4, 4)}), tmp_path / "wide.xml")
    with pytest.warns(
        UserWarning, match="6 quantized layers are not executed in 8-bit integers here: layer2.0.conv1"
    ):
        openvino_network(wide, threads=1)
    reads_floats = export(quantize(build("cnn-tiny"), 4, 4, skip=["fc"]), tmp_path / "first.xml")
    with pytest.warns(UserWarning, match="1 quantized layer is not executed in 8-bit integers here: conv1"):
        openvino_network(reads_floats, threads=1)


def test_the_file_is_small(tmp_path: Path):
    for bits, factor in ((1, 28), (2, 15), (4, 7.8)):
        path = export(quantize(build("resnet8"), bits, bits), tmp_path / "net.xml")
        floats = sum(4 * parameter.numel() for parameter in build("resnet8").parameters())
        assert path.with_suffix(".bin").stat().st_size <= floats / factor


def unclipped(value: Any) -> Any:
    """What a clamp before a quantizer reads; OpenVINO writes it as a maximum and a minimum."""
    while (node := value.get_node()).get_type_name() in ("Clamp", "Maximum", "Minimum"):
        value = next(
            one
            for one in node.input_values()
            if one.get_node().get_type_name() not in ("Constant", "Convert")
        )
    return value


def fed(path: Path, model: nn.Module, images: Tensor) -> dict[str, SimpleNamespace]:
    """Each act point fed with PyTorch's own input to its layers, quantized layers in 8-bit integers as ever.

    What reads an act point gets PyTorch's quantized tensor instead, through a quantizer of the same levels, which
    changes no level. Per act point: `a` before clip and rounding and `q` after, and `own`, PyTorch's q.
    """
    own: dict[str, Tensor] = {}
    before: dict[str, Tensor] = {}
    handles = []
    for name, module in quantized_activations(model).items():
        handles.append(
            module.register_forward_hook(lambda _m, _i, out, name=name: own.__setitem__(name, out))
        )
        handles.append(
            module.register_forward_pre_hook(lambda _m, given, name=name: before.__setitem__(name, given[0]))
        )
    with torch.no_grad():
        logits = model.eval()(images)
    for handle in handles:
        handle.remove()
    network = openvino.Core().read_model(str(path))
    nodes = {node.get_friendly_name(): node for node in network.get_ordered_ops()}
    parameters, results = [], []
    for name, value in own.items():
        node = nodes[f"{name}/FakeQuantize"]
        readers = list(node.output(0).get_target_inputs())
        parameter = opset13.parameter(list(value.shape), np.float32, name=f"{name}:fed")
        bounds = [node.input_value(index) for index in range(1, 5)]
        again = opset13.fake_quantize(parameter, *bounds, levels=int(node.get_attributes()["levels"]))
        for reader in readers:
            reader.replace_source_output(again.output(0))
        results += [opset13.result(unclipped(node.input_value(0))), opset13.result(node.output(0))]
        parameters.append(parameter)
    network.add_parameters(parameters)
    network.add_results(results)
    compiled = shared_core().compile_model(network, "CPU", settings(1, "f32"))
    values = list(compiled([images.numpy(), *(value.numpy() for value in own.values())]).values())
    found = {
        name: SimpleNamespace(
            a=torch.from_numpy(values[1 + 2 * index]),
            q=torch.from_numpy(values[2 + 2 * index]),
            own=own[name],
            before=before[name],
        )
        for index, name in enumerate(own)
    }
    found["logits"] = SimpleNamespace(a=torch.from_numpy(values[0]), q=None, own=None, before=logits)
    return found


@pytest.mark.parametrize("data", ["digits", "cifar10", "cifar10_alexnet"])
@pytest.mark.parametrize("bits", [2, 4])
def test_every_layer_agrees_before_and_after_its_rounding(
    tmp_path: Path, request: pytest.FixtureRequest, data: str, bits: int
):
    one: Trained = request.getfixturevalue(data)
    student, images, n = one.students[bits], one.images[:200], 2**bits - 1
    found = fed(export(student, tmp_path / "net.xml"), student, images)
    assert len(found) == (5 if data == "cifar10_alexnet" else 7)
    for name, layer in found.items():
        assert (layer.a - layer.before).abs().max() < 1e-4, name
        if name != "logits":
            levels = (layer.q - layer.own).abs() * n
            differs = levels > 0.5
            assert levels.max() < 1.01
            scaled = layer.before[differs] * n
            assert ((scaled - scaled.floor() - 0.5).abs() < 1e-4 * n).all()


@pytest.mark.parametrize("data", ["cifar10_2000", "cifar10_alexnet"])
@pytest.mark.parametrize("bits", [2, 4])
def test_end_to_end_on_real_images(tmp_path: Path, request: pytest.FixtureRequest, data: str, bits: int):
    one: Trained = request.getfixturevalue(data)
    assert len(one.images) == 2000
    student = one.students[bits]
    network = openvino_network(export(student, tmp_path / "net.xml"), threads=1)
    assert {layer.name for layer in network.layers if layer.integer} == set(quantized_weights(student))
    logits = network(one.images)
    with torch.no_grad(), frozen_weights(student):
        expected = student(one.images)
    agreement = (logits.argmax(1) == expected.argmax(1)).float().mean().item()
    ours, theirs = (float((one.labels == found.argmax(1)).float().mean()) for found in (expected, logits))
    print(
        f"\n{data}, {bits} bits, {len(one.images)} images: arg-max agreement {100 * agreement:.2f} %, accuracy "
        f"PyTorch {100 * ours:.2f} %, OpenVINO {100 * theirs:.2f} %"
    )
    assert ours > 0.2  # chance is 0.1
    assert agreement >= 0.995
    assert abs(ours - theirs) <= 0.002


INFO = NetworkInfo(
    preprocessing=Preprocessing(mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3), size=(32, 32)),
    classes=("cat", "sea lion", *"cdefghij"),
    data="pets",
    accuracy=0.75,
    test_images=40,
    made={"loss": "ii-kd"},
)


def test_what_the_file_says(tmp_path: Path):
    path = export(
        quantize(build("cnn-tiny"), 2, 4), tmp_path / "net.xml", info=INFO, extra={"note": 'a "b" <c>\n'}
    )
    about = describe(path)
    assert NetworkInfo.from_json(about["info"]) == INFO
    assert about["note"] == 'a "b" <c>\n'
    assert about["quantization"]["weight_bits"] == 2
    assert about["form"] == "openvino"
    model = openvino.Core().read_model(str(path))  # OpenVINO's own tools look here
    assert model.get_rt_info(["model_info", "labels"]).astype(str).split()[:2] == ["cat", "sea_lion"]
    assert model.get_rt_info(["model_info", "mean_values"]).astype(str) == "127.5 102 76.5"
    stated = json.loads(model.get_rt_info(["rolewise"]).astype(str))
    assert stated["info"]["preprocessing"]["std"] == [0.2, 0.25, 0.3]


@pytest.mark.parametrize("place", [0, 0.3, 0.6, 0.999, -1])
@pytest.mark.parametrize("suffix", [".xml", ".bin"])
def test_a_flipped_bit_is_noticed(tmp_path: Path, place: float, suffix: str):
    path = export(quantize(build("cnn-tiny"), 2, 2), tmp_path / "net.xml")
    file = path.with_suffix(suffix)
    data = bytearray(file.read_bytes())
    data[int(place * len(data)) if place >= 0 else -1] ^= 4
    file.write_bytes(data)
    for read in (openvino_network, describe):
        with pytest.raises(InputError, match="is damaged"):
            read(path)


def test_missing_files(tmp_path: Path):
    with pytest.raises(InputError, match="Cannot read .*net.xml: No such file"):
        openvino_network(tmp_path / "net.xml")
    path = export(build("cnn-tiny"), tmp_path / "net.xml")
    path.with_suffix(".bin").unlink()
    with pytest.raises(InputError, match="Cannot read .*net.bin: No such file"):
        openvino_network(path)


def test_a_wrong_precision(tmp_path: Path):
    with pytest.raises(
        InputError, match='`precision` must be "f32" or "bf16", got "int8"'.replace('"int8"', "'int8'")
    ):
        openvino_network(tmp_path / "net.xml", precision="int8")


def test_without_openvino(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r"OpenVINO files needs openvino.*pip install .*\[openvino\]"):
        export(build("cnn-tiny"), tmp_path / "net.xml")
    assert list(tmp_path.iterdir()) == []


def test_the_batch_is_free_and_the_network_unchanged(tmp_path: Path):
    model = quantize(build("cnn-tiny"), 2, 2, method="lsq").train()
    before = copy.deepcopy(model.state_dict())
    network = openvino_network(export(model, tmp_path / "net.xml"), threads=1)
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    images = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for batch in (1, 2, 5):
        torch.testing.assert_close(network(images[:batch]), network(images)[:batch], rtol=1e-4, atol=1e-4)


SCRIPT = """
import sys
import openvino, rolewise
path, = sys.argv[1:]
assert "onnx" not in sys.modules
network = rolewise.pretrained.openvino_network(path)
assert "onnx" not in sys.modules
"""


def test_reading_needs_openvino_alone(tmp_path: Path):
    path = export(build("cnn-tiny"), tmp_path / "net.xml")
    script = SCRIPT.replace("import openvino, rolewise", "import openvino, rolewise.pretrained")
    run: Any = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr


SIGNAL = """
import gc, os, signal, sys
from rolewise.pretrained import openvino_network
heard = []
signal.signal(signal.SIGUSR1, lambda number, frame: heard.append(number))
first, second = openvino_network(sys.argv[1]), openvino_network(sys.argv[1])
del first
gc.collect()
del second
gc.collect()
os.kill(os.getpid(), signal.SIGUSR1)
assert heard == [signal.SIGUSR1]
"""


@pytest.mark.parametrize("faulthandler", [[], ["-X", "faulthandler"]])
def test_signals_can_be_handled_after_networks_are_released(tmp_path: Path, faulthandler: list[str]):
    """With a `Core` for each network, the handler would run on a signal stack that is gone."""
    path = export(build("cnn-tiny"), tmp_path / "net.xml")
    run = subprocess.run([sys.executable, *faulthandler, "-c", SIGNAL, str(path)], timeout=120, check=False)
    assert run.returncode == 0
