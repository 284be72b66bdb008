"""ONNX files: the decoded weights bit for bit, each layer on its own, the whole on real images, and bad input."""

import copy
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import packed_files
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn
from trained_networks import Trained

from rolewise.errors import InputError, MissingExtraError
from rolewise.networks import build
from rolewise.pretrained import describe, export, load_network, onnx_export, onnx_network
from rolewise.quant import frozen_weights, quantize
from rolewise.quant.activations import quantized_activations
from rolewise.quant.layers import quantized_weights

CODES = {TensorProto.UINT2: 2, TensorProto.UINT4: 4, TensorProto.UINT8: 8}


def session(model: onnx.ModelProto | Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    data = str(model) if isinstance(model, Path) else model.SerializeToString()
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def decoded(path: Path) -> dict[str, np.ndarray]:
    """The weights behind each DequantizeLinear, unpacked and computed with NumPy alone."""
    graph = onnx.load(str(path)).graph
    stored = {tensor.name: tensor for tensor in graph.initializer}

    def codes(name: str) -> np.ndarray:
        tensor = stored[name]
        raw = np.frombuffer(tensor.raw_data, np.uint8)
        return packed_files.unpack(raw, CODES[tensor.data_type], list(tensor.dims))

    readers = {node.input[0]: node for node in graph.node}
    found = {}
    for node in graph.node:
        if node.op_type == "DequantizeLinear":
            zero = codes(node.input[2]) if len(node.input) > 2 else 0
            value = (codes(node.input[0]) - zero).astype(np.float32) * onnx.numpy_helper.to_array(
                stored[node.input[1]]
            )
            after = readers.get(node.output[0])
            if after is not None and after.op_type == "Sub":
                value = value - onnx.numpy_helper.to_array(stored[after.input[1]])
            found[node.input[0].removesuffix(".weight.codes")] = value
    return found


@pytest.mark.parametrize(
    ("method", "bits"),
    [("dorefa", bits) for bits in range(1, 9)] + [("lsq", 2), ("lsq", 4), ("lsq", 7), ("pact", 2)],
)
def test_decoded_weights_are_pytorchs_bit_for_bit(tmp_path: Path, method: str, bits: int):
    model = quantize(build("cnn-tiny", seed=bits), bits, 4, method=method)
    path = export(model, tmp_path / "net.onnx")
    expected = {n: layer.quantized_weight().detach().numpy() for n, layer in quantized_weights(model).items()}
    found = decoded(path)
    assert set(found) == set(expected)
    for name, weight in expected.items():
        assert found[name].tobytes() == weight.tobytes()
    # and onnxruntime decodes to the same
    graph = onnx.load(str(path))
    outputs = [node.output[0] for node in graph.graph.node if node.op_type in ("DequantizeLinear", "Sub")]
    ends = [
        name for name in outputs if f"{name.rpartition('/')[0]}/Sub" not in outputs or name.endswith("Sub")
    ]
    del graph.graph.output[:]
    graph.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ends)
    values = session(graph).run(None, {"images": np.zeros((1, 3, 32, 32), np.float32)})
    for name, value in zip(ends, values, strict=True):
        assert value.tobytes() == expected[name.rpartition(".weight/")[0]].tobytes()


@pytest.mark.parametrize(
    ("bits", "kind", "opset"),
    [(1, "UINT2", 25), (2, "UINT2", 25), (3, "UINT4", 21), (4, "UINT4", 21), (5, "UINT8", 21)],
)
def test_storage_and_opset(tmp_path: Path, bits: int, kind: str, opset: int):
    path = export(quantize(build("cnn-tiny"), bits, bits), tmp_path / "net.onnx")
    model = onnx.load(str(path))
    onnx.checker.check_model(model, full_check=True)
    types = {
        TensorProto.DataType.Name(t.data_type) for t in model.graph.initializer if t.name.endswith(".codes")
    }
    assert types == {kind}
    assert [(one.domain, one.version) for one in model.opset_import] == [("", opset)]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net.onnx"]  # one file, no external data
    assert not any(t.name.endswith("conv1.weight") and "layer" in t.name for t in model.graph.initializer)


def test_the_file_is_small(tmp_path: Path):
    for bits, factor in ((2, 13), (4, 7)):
        path = export(quantize(build("resnet18"), bits, bits), tmp_path / "net.onnx")
        assert path.stat().st_size <= 4 * 11_157_504 / factor


def test_where_the_runtime_lacks_uint2_the_weights_are_uint4(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(onnx_export, "supports", lambda kind: kind != "UINT2")
    model = quantize(build("cnn-tiny"), 2, 2)
    path = export(model, tmp_path / "net.onnx")
    assert onnx.load(str(path)).opset_import[0].version == 21
    for name, weight in decoded(path).items():
        assert (
            weight.tobytes() == quantized_weights(model)[name].quantized_weight().detach().numpy().tobytes()
        )


def test_the_probe_says_no_when_the_runtime_refuses(monkeypatch: pytest.MonkeyPatch):
    onnx_export.supports.cache_clear()
    assert onnx_export.supports("UINT2")  # the tested set has it
    onnx_export.supports.cache_clear()

    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("type not supported")

    monkeypatch.setattr(onnxruntime, "InferenceSession", refuse)
    assert not onnx_export.supports("UINT2")
    onnx_export.supports.cache_clear()


def fed(path: Path, model: nn.Module, images: Tensor) -> dict[str, SimpleNamespace]:
    """Each act point fed with PyTorch's own input to its layers.

    The ONNX graph is cut behind each quantizer: what reads its output gets PyTorch's quantized tensor instead. Per act
    point: `a` before clip and rounding and `q` after, from onnxruntime, and `own`, PyTorch's q.
    """
    own: dict[str, Tensor] = {}
    handles = [
        module.register_forward_hook(lambda _m, _i, output, name=name: own.__setitem__(name, output))
        for name, module in quantized_activations(model).items()
    ]
    with torch.no_grad():
        model.eval()(images)
    for handle in handles:
        handle.remove()
    graph = onnx.load(str(path))
    nodes = {node.name: node for node in graph.graph.node}
    outputs = [(nodes[f"{name}/Clip"].input[0], nodes[f"{name}/Div"].output[0]) for name in own]
    assert not any(a.startswith(name) for name, (a, _) in zip(own, outputs, strict=True))
    ends = {q: f"{q}:fed" for _, q in outputs}
    for node in graph.graph.node:
        for index, value in enumerate(node.input):
            node.input[index] = ends.get(value, value)
    for (a, q), value in zip(outputs, own.values(), strict=True):
        shape = list(value.shape)
        graph.graph.input.append(helper.make_tensor_value_info(f"{q}:fed", TensorProto.FLOAT, shape))
        graph.graph.output.append(helper.make_tensor_value_info(q, TensorProto.FLOAT, None))
        if a not in ends:
            graph.graph.output.append(helper.make_tensor_value_info(a, TensorProto.FLOAT, None))
    given = {
        "images": images.numpy(),
        **{f"{q}:fed": own[n].numpy() for n, (_, q) in zip(own, outputs, strict=True)},
    }
    wanted = [name for a, q in outputs for name in (a, q)] + ["logits"]
    values = dict(zip(wanted, session(graph).run(wanted, given), strict=True))
    found = {
        name: SimpleNamespace(a=torch.from_numpy(values[a]), q=torch.from_numpy(values[q]), own=own[name])
        for name, (a, q) in zip(own, outputs, strict=True)
    }
    found["logits"] = SimpleNamespace(a=torch.from_numpy(values["logits"]), q=None, own=None)
    return found


def floats_before(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """PyTorch's values before clip and rounding at each act point."""
    found: dict[str, Tensor] = {}
    handles = [
        module.register_forward_pre_hook(lambda _m, inputs, name=name: found.__setitem__(name, inputs[0]))
        for name, module in quantized_activations(model).items()
    ]
    with torch.no_grad():
        found["logits"] = model.eval()(images)
    for handle in handles:
        handle.remove()
    return found


@pytest.mark.parametrize("data", ["digits", "cifar10"])
@pytest.mark.parametrize("bits", [2, 4])
def test_every_layer_agrees_before_and_after_its_rounding(
    tmp_path: Path, request: pytest.FixtureRequest, data: str, bits: int
):
    one: Trained = request.getfixturevalue(data)
    student, images, n = one.students[bits], one.images[:200], 2**bits - 1
    found = fed(export(student, tmp_path / "net.onnx"), student, images)
    before = floats_before(student, images)
    assert len(found) == 7
    for name, layer in found.items():
        assert (layer.a - before[name]).abs().max() < 1e-4, name
        if name != "logits":
            levels = (layer.q - layer.own).abs() * n
            differs = levels > 0.5
            assert levels.max() < 1.01
            scaled = before[name][differs] * n
            assert ((scaled - scaled.floor() - 0.5).abs() < 1e-4 * n).all()


@pytest.mark.parametrize("data", ["digits", "cifar10"])
@pytest.mark.parametrize("bits", [2, 4])
def test_end_to_end_on_real_images(tmp_path: Path, request: pytest.FixtureRequest, data: str, bits: int):
    one: Trained = request.getfixturevalue(data)
    student = one.students[bits]
    assert len(one.images) >= 1000
    path = export(student, tmp_path / "net.onnx", extra={"data": data})
    network = onnx_network(path, threads=1)
    logits = network(one.images)
    with torch.no_grad(), frozen_weights(student):
        expected = student(one.images)
    agreement = (logits.argmax(1) == expected.argmax(1)).float().mean().item()
    ours, theirs = (float((one.labels == found.argmax(1)).float().mean()) for found in (expected, logits))
    flipped = share_of_flips(path, student, one.images[:200])
    print(
        f"\n{data}, {bits} bits, {len(one.images)} images: arg-max agreement {100 * agreement:.2f} %, accuracy PyTorch "
        f"{100 * ours:.2f} %, ONNX {100 * theirs:.2f} %, flipped activations {100 * flipped:.4f} %"
    )
    assert ours > {("digits", 2): 0.7, ("digits", 4): 0.9}.get((data, bits), 0.2)  # chance is 0.1
    assert agreement >= 0.99
    assert abs(ours - theirs) <= 0.003


def share_of_flips(path: Path, student: nn.Module, images: Tensor) -> float:
    """Of all quantized activations, those that onnxruntime puts on another level, from the images on."""
    own: dict[str, Tensor] = {}
    handles = [
        module.register_forward_hook(lambda _m, _i, output, name=name: own.__setitem__(name, output))
        for name, module in quantized_activations(student).items()
    ]
    with torch.no_grad():
        student(images)
    for handle in handles:
        handle.remove()
    graph = onnx.load(str(path))
    names = [f"{name}/Div" for name in own]
    graph.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    values = session(graph).run(names, {"images": images.numpy()})
    differ = sum(
        ((torch.from_numpy(v) - q).abs() > 1e-6).sum().item()
        for v, q in zip(values, own.values(), strict=True)
    )
    return differ / sum(q.numel() for q in own.values())


@pytest.mark.parametrize(
    "name",
    [
        "resnet8",
        "alexnet",
        "wrn-16-2",
        "vgg8",
        "mobilenetv2",
        "shufflenetv1",
        "shufflenetv2",
        "resnet8-small",
    ],
)
def test_float_networks_of_every_kind(tmp_path: Path, name: str):
    model = build(name).eval()
    model.train()(torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(1)))
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    network = onnx_network(export(model, tmp_path / "net.onnx"), threads=1)
    with torch.no_grad():
        expected = model.eval()(images)
    torch.testing.assert_close(network(images), expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())
    for batch in (1, 2):  # the batch is free
        torch.testing.assert_close(network(images[:batch]), network(images)[:batch], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("size", [8, 16, 32, 64])
def test_other_image_sizes(tmp_path: Path, size: int):
    """Pooled to 4x4 as in AlexNet: repeated, as they are, or the maximum of each field."""

    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.last = nn.Conv2d(3, 4, 3, 4, padding=1), nn.Linear(64, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(nn.functional.adaptive_max_pool2d(self.conv(x), 4).flatten(1))

    model = Pooled()
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    path = export(model, tmp_path / "net.onnx", image_size=(size, size))
    with torch.no_grad():
        torch.testing.assert_close(onnx_network(path, threads=1)(images), model(images), rtol=1e-5, atol=1e-5)
    assert describe(path)["image_size"] == [size, size]


class Own(nn.Module):
    """Operators in the forms in which users write them, some of them in place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(8, affine=False)
        self.relu = nn.ReLU6(inplace=True)
        self.depth = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.pool = nn.AvgPool2d(2, ceil_mode=False)
        self.swish, self.leaky, self.hard = nn.SiLU(), nn.LeakyReLU(0.1), nn.Hardswish()
        self.middle, self.last = nn.Linear(8, 16), nn.Linear(128, 5)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm(self.conv(x)))
        y = self.depth(x)
        y += x
        y = self.pool(nn.functional.max_pool2d(y, 3, 2, 1))
        y = torch.sigmoid(y) * y - torch.tanh(y) / 3
        left, right = y.split([3, 5], 1)
        y = torch.cat([self.swish(left), self.leaky(right)], 1)[:, 1:, 1:3]
        y = torch.cat([y, y[:, :1]], 1)
        y = nn.functional.adaptive_avg_pool2d(y, (2, 4)).permute(0, 2, 3, 1)
        y = self.hard(self.middle(y)).reshape(y.shape[0], -1).clamp(-2.0, 3.0)
        return self.last(self.drop(y.view(y.size(0), -1)))


def test_a_users_network(tmp_path: Path):
    model = Own().eval()
    model.norm.running_mean.normal_(generator=torch.Generator().manual_seed(0))
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    low = quantize(copy.deepcopy(model), 4, 4, act_points=["relu", "pool"])
    for network in (model, low):
        found = onnx_network(export(network, tmp_path / "net.onnx"), threads=1)
        with torch.no_grad():
            torch.testing.assert_close(found(images), network(images), rtol=1e-4, atol=1e-4)
    assert describe(tmp_path / "net.onnx")["architecture"] == {"name": None, "class": "Own"}


def test_exporting_changes_nothing(tmp_path: Path):
    model = quantize(build("cnn-tiny"), 2, 2, method="lsq").train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    export(model, tmp_path / "net.onnx")
    assert model.training
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_packed_network_is_exported_too(tmp_path: Path):
    model = quantize(build("cnn-tiny"), 2, 2)
    packed = load_network(export(model, tmp_path / "net.safetensors"))
    one, other = export(model, tmp_path / "one.onnx"), export(packed, tmp_path / "other.onnx")
    assert {n: w.tobytes() for n, w in decoded(one).items()} == {
        n: w.tobytes() for n, w in decoded(other).items()
    }


def test_what_the_file_says(tmp_path: Path):
    path = export(quantize(build("cnn-tiny"), 2, 4), tmp_path / "net.onnx", extra={"data": "digits"})
    about = describe(path)
    assert about["data"] == "digits"
    assert about["quantization"]["act_bits"] == 4
    assert about["bytes"] == path.stat().st_size
    properties = {entry.key: entry.value for entry in onnx.load(str(path)).metadata_props}
    assert json.loads(properties["rolewise"])["architecture"]["name"] == "cnn-tiny"
    assert len(properties["rolewise.sha256"]) == 64


@pytest.mark.parametrize("place", [0, 0.3, 0.5, 0.9, 0.999, -1])
def test_a_flipped_bit_is_noticed(tmp_path: Path, place: float):
    path = export(quantize(build("cnn-tiny"), 2, 2), tmp_path / "net.onnx")
    data = bytearray(path.read_bytes())
    data[int(place * len(data)) if place >= 0 else -1] ^= 4
    path.write_bytes(data)
    for read in (onnx_network, describe):
        with pytest.raises(InputError, match="net.onnx is damaged, or was not written by rolewise"):
            read(path)


@pytest.mark.parametrize("size", [0, 10, 5000])
def test_a_truncated_file(tmp_path: Path, size: int):
    path = export(quantize(build("cnn-tiny"), 2, 2), tmp_path / "net.onnx")
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(InputError, match="net.onnx is damaged, or was not written by rolewise"):
        onnx_network(path)


def test_a_missing_file(tmp_path: Path):
    with pytest.raises(InputError, match="Cannot read .*absent.onnx: No such file"):
        onnx_network(tmp_path / "absent.onnx")


def test_a_newer_format(tmp_path: Path):
    path = export(build("cnn-tiny"), tmp_path / "net.onnx")
    model = onnx.load(str(path))
    stated = json.loads(model.metadata_props[0].value) | {"format_version": 2}
    del model.metadata_props[:]
    helper.set_model_props(model, {"rolewise": json.dumps(stated)})
    path.write_bytes(onnx_export.seal(model.SerializeToString()))
    with pytest.raises(InputError, match="has format version 2; this version of rolewise reads 1"):
        describe(path)


def test_opsets_out_of_range(tmp_path: Path):
    model = quantize(build("cnn-tiny"), 4, 4)
    with pytest.raises(InputError, match="`opset` must be at least 21, where 4-bit weights begin, got 13"):
        export(model, tmp_path / "net.onnx", opset=13)
    with pytest.raises(InputError, match="`opset` 99 is newer than the installed onnx .* knows"):
        export(model, tmp_path / "net.onnx", opset=99)
    assert list(tmp_path.iterdir()) == []
    assert onnx.load(str(export(model, tmp_path / "net.onnx", opset=23))).opset_import[0].version == 23


def test_a_runtime_that_is_too_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = export(quantize(build("cnn-tiny"), 2, 2), tmp_path / "net.onnx")

    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("Unsupported model IR version: 13")

    monkeypatch.setattr(onnxruntime, "InferenceSession", refuse)
    with pytest.raises(
        InputError, match="cannot run this file \\(Unsupported model IR version: 13\\).*`opset=21`"
    ):
        onnx_network(path)


def test_a_network_that_depends_on_its_data(tmp_path: Path):
    class Branch(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1) if x.sum() > 0 else -x.flatten(1)

    with pytest.raises(InputError, match="torch.export cannot trace Branch"):
        export(Branch(), tmp_path / "net.onnx")


def test_a_network_without_logits(tmp_path: Path):
    with pytest.raises(InputError, match="must return one tensor of logits"):
        export(nn.Sequential(nn.Conv2d(3, 3, 1)), tmp_path / "net.onnx")


def test_without_onnx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import sys

    path = export(build("cnn-tiny"), tmp_path / "net.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(
        MissingExtraError, match=r"onnxruntime, which is not installed: pip install .*\[export\]"
    ):
        onnx_network(path)
    monkeypatch.setitem(sys.modules, "onnx", None)
    for name in [name for name in sys.modules if name.startswith("rolewise.pretrained.onnx_")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(MissingExtraError, match=r"ONNX export needs onnx.*pip install .*\[export\]"):
        export(build("cnn-tiny"), tmp_path / "other.onnx")
    with pytest.raises(MissingExtraError, match="Reading an ONNX file needs onnx"):
        describe(path)


def test_other_suffixes(tmp_path: Path):
    with pytest.raises(InputError, match='`path` must end in ".safetensors", ".onnx" or ".xml", got'):
        export(build("cnn-tiny"), tmp_path / "net.tflite")
