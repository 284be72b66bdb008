"""Pairs of files: what comes back, and every way in which they can be wrong."""

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import packed_files
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from torch import Tensor, nn

from rolewise.errors import InputError, InputTypeError
from rolewise.networks import build
from rolewise.pretrained import describe, digest, export, load_network, save_network
from rolewise.quant import quantization, quantize

X = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def logits(model: nn.Module) -> Tensor:
    with torch.no_grad():
        return model.eval()(X)


def reseal(path: Path, change: dict[str, Any] | None = None, data: bytes | None = None) -> None:
    """Makes the JSON fit changed bytes, as an attacker would."""
    stated = json.loads(path.with_suffix(".json").read_text())
    if data is not None:
        path.write_bytes(data)
        stated["bytes"], stated["sha256"] = len(data), hashlib.sha256(data).hexdigest()
    stated.update(change or {})
    path.with_suffix(".json").write_text(json.dumps(stated))


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    return save_network(
        quantize(build("cnn-tiny"), 2, 4), tmp_path / "net", extra={"data": "digits", "accuracy": 0.5}
    )


@pytest.mark.parametrize(
    ("bits", "arguments"),
    [
        (None, {}),
        ((2, 4), {}),
        ((1, 1), {"skip": []}),
        ((3, 2), {"method": "lsq"}),
        ((4, 32), {"method": "pact"}),
        ((2, 2), {"method": "pact", "layers": {"layer2": 8}, "grad_bits": 4}),
        ((32, 32), {}),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_the_pair_alone_rebuilds_the_network(
    tmp_path: Path, bits: tuple[int, int] | None, arguments: dict[str, Any], packed: bool
):
    model = build("cnn-tiny", num_classes=7, seed=3)
    if bits is not None:
        quantize(model, *bits, **arguments)
    model(X)  # BatchNorm's averages move
    if packed and bits in (None, (32, 32)):
        with pytest.raises(InputError, match="`packed` needs a network with quantized weights"):
            save_network(model, tmp_path / "net", packed=True)
        return
    path = save_network(model, tmp_path / "net", packed=packed)
    assert path == tmp_path / "net.safetensors"
    for source in (path, tmp_path / "net", str(path)):
        found = load_network(source)
        assert not found.training
        assert torch.equal(logits(found), logits(model))
        assert found.architecture == model.architecture
    if not packed:
        assert digest(found) == digest(model)
        assert quantization(found) == quantization(model)
        assert found.state_dict().keys() == model.state_dict().keys()
    again = save_network(found, tmp_path / "again", packed=packed)
    assert torch.equal(logits(load_network(again)), logits(model))
    if packed:  # packing what was packed gives the same bytes
        assert packed_files.read(again)[0].keys() == packed_files.read(path)[0].keys()
        assert all(
            (packed_files.read(again)[0][name] == array).all()
            for name, array in packed_files.read(path)[0].items()
        )


def test_the_same_network_gives_the_same_bytes(tmp_path: Path):
    model = quantize(build("cnn-tiny"), 2, 2)
    one = save_network(model, tmp_path / "one")
    other = save_network(model.to(memory_format=torch.channels_last), tmp_path / "other")
    assert one.read_bytes() == other.read_bytes()
    assert one.with_suffix(".json").read_bytes() == other.with_suffix(".json").read_bytes()


def test_the_digest_is_the_stated_hash():
    model = build("cnn-tiny")
    found = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        found.update(f"{name}\x1f{tensor.dtype}\x1f{tuple(tensor.shape)}\x1f".encode())
        found.update(tensor.numpy().tobytes())
    assert digest(model) == found.hexdigest()
    assert digest(model.to(memory_format=torch.channels_last)) == found.hexdigest()
    model.fc.bias.data[0] += 1e-6
    assert digest(model) != found.hexdigest()


def test_what_the_file_says(pair: Path):
    about = describe(pair)
    assert about["data"] == "digits"
    assert about["accuracy"] == 0.5
    assert about["num_classes"] == 10
    assert about["architecture"] == {"name": "cnn-tiny", "arguments": {"num_classes": 10}}
    assert about["quantization"]["weight_bits"] == 2
    assert about["extra"] == {"data": "digits", "accuracy": 0.5}
    arrays, metadata = packed_files.read(pair)  # read without safetensors
    assert set(arrays) == set(build("cnn-tiny").state_dict())
    assert json.loads(metadata["rolewise"])["num_classes"] == 10


def own() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 5),
    )


@pytest.mark.parametrize("packed", [False, True])
def test_a_users_network_is_given_again(tmp_path: Path, packed: bool):
    model = quantize(own(), 2, 2, act_points=["1"])
    path = save_network(model, tmp_path / "own", packed=packed)
    with pytest.raises(InputError, match="holds a Sequential, which is not one of this package's.*model=..."):
        load_network(path)
    found = load_network(path, model=own())
    assert torch.equal(logits(found), logits(model))
    float_file, other = save_network(own(), tmp_path / "float"), own()
    other[2] = nn.Conv2d(4, 4, 1)
    with pytest.raises(
        InputError,
        match=r"(?s)do not fit the network.*2.weight: \(4, 4, 3, 3\) float32 in the file, \(4, 4, 1, 1\)",
    ):
        load_network(float_file, model=other)
    with pytest.raises(InputError, match="num_classes: 5 in the file, 6 in the network"):
        load_network(tmp_path / "float", model=nn.Sequential(*own()[:5], nn.Linear(4, 6)))


def test_tied_weights(tmp_path: Path):
    def tied() -> nn.Module:
        model = nn.Sequential(nn.Flatten(), nn.Linear(3072, 8), nn.Linear(8, 8), nn.Linear(8, 8))
        model[3].weight = model[2].weight
        return model

    model = tied()
    found = load_network(save_network(model, tmp_path / "tied"), model=tied())
    assert torch.equal(logits(found), logits(model))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda: build("resnet8-small"),
            r'architecture.name: "cnn-tiny" in the file, "resnet8-small" in the network',
        ),
        (lambda: build("cnn-tiny", num_classes=100), r"num_classes: 10 in the file, 100 in the network"),
        (
            lambda: quantize(build("cnn-tiny"), 4, 4),
            r"quantization.weight_bits: 2 in the file, 4 in the network",
        ),
        (
            lambda: quantize(build("cnn-tiny"), 2, 2),
            r"quantization.act_bits: 4 in the file, 2 in the network",
        ),
        (
            lambda: quantize(build("cnn-tiny"), 2, 4, skip=[]),
            r"quantization.weights.conv1: null in the file, 2 in",
        ),
    ],
)
def test_another_network_is_refused_with_the_first_differences(pair: Path, change: Any, message: str):
    model = change()
    before = digest(model)
    with pytest.raises(InputError, match=f"(?s)holds another network:.*{message}"):
        load_network(pair, model=model)
    assert digest(model) == before


def test_long_lists_of_differences_are_cut(pair: Path):
    with pytest.raises(InputError) as error:
        load_network(pair, model=quantize(build("resnet56", num_classes=10), 4, 4))
    assert str(error.value).count("\n") == 6
    assert "more" in str(error.value).splitlines()[-1]


def test_a_float_file_does_not_fit_a_quantized_network(tmp_path: Path):
    path = save_network(build("cnn-tiny"), tmp_path / "net")
    with pytest.raises(InputError, match="(?s)quantization: null in the file"):
        load_network(path, model=quantize(build("cnn-tiny"), 2, 2))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@pytest.mark.parametrize("suffix", [".safetensors", ".json"])
def test_a_flipped_bit_is_noticed(pair: Path, suffix: str, place: float, bit: int):
    path = pair.with_suffix(suffix)
    good = path.read_bytes()
    bad = bytearray(good)
    bad[int(place * len(good))] ^= 1 << bit
    path.write_bytes(bad)
    message = ""
    try:
        model = load_network(pair)
    except InputError as error:
        message = str(error)
    finally:
        path.write_bytes(good)
    if message:
        assert str(path.with_suffix("")) in message
    else:  # white space of the JSON, and what `extra` says, may change without harm to the network
        assert suffix == ".json"
        assert digest(model) == digest(quantize(build("cnn-tiny"), 2, 4))
        assert quantization(model) == quantization(quantize(build("cnn-tiny"), 2, 4))


@pytest.mark.parametrize("suffix", [".safetensors", ".json"])
@pytest.mark.parametrize("cut", ["all", "ten", "half", "one"])
def test_a_truncated_file_is_named(pair: Path, suffix: str, cut: str):
    path = pair.with_suffix(suffix)
    data = path.read_bytes()
    path.write_bytes(data[: {"all": 0, "ten": 10, "half": len(data) // 2, "one": len(data) - 2}[cut]])
    with pytest.raises(InputError, match="truncated|is not JSON") as error:
        load_network(pair)
    assert str(path) in str(error.value)


def test_missing_files(pair: Path, tmp_path: Path):
    with pytest.raises(InputError, match="absent.json is missing: a network is a pair of files"):
        load_network(tmp_path / "absent")
    stated = pair.with_suffix(".json").read_bytes()
    pair.with_suffix(".json").unlink()
    with pytest.raises(InputError, match="net.json is missing"):
        load_network(pair)
    pair.with_suffix(".json").write_bytes(stated)
    pair.unlink()
    with pytest.raises(InputError, match="Cannot read .*net.safetensors: No such file"):
        load_network(pair)


def test_files_of_another_network_do_not_belong_together(pair: Path, tmp_path: Path):
    other = save_network(quantize(build("cnn-tiny", seed=1), 2, 4), tmp_path / "other")
    pair.write_bytes(other.read_bytes())
    with pytest.raises(InputError, match="is not the file that net.json describes \\(its SHA-256 differs\\)"):
        load_network(pair)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, 'does not describe a network \\(its "format" is not "rolewise.network"\\)'),
        ({"format_version": 2}, "has format version 2; this version of rolewise reads 1"),
        ({"architecture": None}, "is damaged: architecture missing or of another type"),
        ({"sha256": 3, "bytes": "x"}, "is damaged: sha256, bytes missing or of another type"),
        (
            {"num_classes": 100},
            "was changed after net.safetensors was written:\n  num_classes: 100 in net.json, 10",
        ),
        ({"form": "packed"}, 'form: "packed" in net.json, "float" in net.safetensors'),
        ({"digest": "0" * 64}, 'digest: "0000'),
    ],
)
def test_a_changed_description(pair: Path, change: dict[str, Any], message: str):
    reseal(pair, change)
    with pytest.raises(InputError, match=message):
        load_network(pair)


def test_json_that_is_no_object(pair: Path):
    pair.with_suffix(".json").write_text("[1, 2]")
    with pytest.raises(InputError, match="does not describe a network"):
        load_network(pair)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff" * 7,
        struct.pack("<Q", 2**62) + b"{}",
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 12) + b'{"a":{"b":1}',
        save({"fc.weight": torch.zeros(3)}),  # a good file, not of ours
        save({"fc.weight": torch.zeros(3)}, {"rolewise": "[" * 10_000}),
        save({"fc.weight": torch.zeros(3)}, {"rolewise": "3"}),
    ],
    ids=["empty", "seven bytes", "huge header", "no tensors", "broken header", "foreign", "deep", "number"],
)
def test_hostile_headers_give_a_clean_error(pair: Path, data: bytes):
    reseal(pair, data=data)
    with pytest.raises(InputError, match=r"net\.safetensors"):
        load_network(pair)


def test_overlapping_offsets(pair: Path):
    data = pair.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    names = [name for name in header if name != "__metadata__"]
    header[names[0]]["data_offsets"] = header[names[1]]["data_offsets"]
    text = json.dumps(header).encode()
    reseal(pair, data=struct.pack("<Q", len(text)) + text + data[8 + length :])
    with pytest.raises(InputError, match="is no valid safetensors file"):
        load_network(pair)


def test_tensors_exchanged_behind_a_good_header(pair: Path):
    """Other numbers, their hash put into the JSON: the digest in the header still differs."""
    data = bytearray(pair.read_bytes())
    data[-1] ^= 1
    reseal(pair, data=bytes(data))
    with pytest.raises(InputError, match="are not those that net.json describes \\(their digest differs\\)"):
        load_network(pair)


def test_an_architecture_that_cannot_be_built(pair: Path):
    """Both copies changed alike: names and arguments are looked up in the table, nothing is imported or run."""
    for architecture in (
        {"name": "os.system", "arguments": {"command": "true"}},
        {"name": "cnn-tiny", "arguments": {"depth": 3}},
        {"name": "cnn-tiny"},
    ):
        data = pair.read_bytes()
        length = struct.unpack("<Q", data[:8])[0]
        header = json.loads(data[8 : 8 + length])
        stated = json.loads(header["__metadata__"]["rolewise"])
        stated["architecture"] = architecture
        header["__metadata__"]["rolewise"] = json.dumps(stated)
        text = json.dumps(header).encode()
        reseal(pair, {"architecture": architecture}, struct.pack("<Q", len(text)) + text + data[8 + length :])
        with pytest.raises(InputError, match="describes a network that cannot be built"):
            load_network(pair)


@pytest.mark.parametrize("suffix", [".pt", ".onnx", ".json"])
def test_other_suffixes(tmp_path: Path, suffix: str):
    with pytest.raises(InputError, match='`path` must end in ".safetensors" or have no suffix'):
        save_network(build("cnn-tiny"), tmp_path / f"net{suffix}")


def test_names_with_spaces_dots_and_other_letters(tmp_path: Path):
    folder = tmp_path / "mit Leerzeichen é"
    folder.mkdir()
    path = save_network(build("cnn-tiny"), folder / "run.1 student")
    assert path.name == "run.1 student.safetensors"
    assert torch.equal(logits(load_network(path)), logits(build("cnn-tiny")))


def test_an_exchange_of_the_disk_leaves_the_old_file(tmp_path: Path):
    """The folder is missing: nothing is written, nothing is left."""
    with pytest.raises(FileNotFoundError, match="absent"):
        save_network(build("cnn-tiny"), tmp_path / "absent" / "net")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["net", "net.safetensors", "net.onnx"])
def test_extra_must_be_json(tmp_path: Path, name: str):
    write = export if name.endswith(".onnx") else save_network
    with pytest.raises(InputTypeError, match="`extra` must be JSON .*Tensor is not JSON serializable"):
        write(build("cnn-tiny"), tmp_path / name, extra={"accuracy": torch.tensor(0.5)})
    assert list(tmp_path.iterdir()) == []
    path = write(build("cnn-tiny"), tmp_path / name, extra={"accuracy": float("nan"), "size": (32, 32)})
    assert describe(path)["extra"] == {"accuracy": None, "size": [32, 32]}
