"""What files say of their network's use, images to classes from any form, and examples with one runtime alone."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from rolewise.errors import InputError
from rolewise.networks import build
from rolewise.pretrained import (
    NetworkInfo,
    Preprocessing,
    describe,
    export,
    load_network,
    predict,
    prepare_image,
    save_network,
    save_pretrained,
)
from rolewise.quant import quantize

ROOT = Path(__file__).resolve().parents[2]
STEPS = Preprocessing(mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3), size=(24, 24))
INFO = NetworkInfo(
    preprocessing=STEPS,
    classes=("cat", "sea lion", *"cdefghij"),
    data="pets",
    accuracy=0.75,
    test_images=40,
    made={"kd": "ii-kd", "seed": 3},
)
FORMS = ("saved.safetensors", "packed.safetensors", "hub", "net.onnx", "net.xml")


def student() -> nn.Module:
    return quantize(build("cnn-tiny", seed=1), 4, 4).eval()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("forms")
    save_network(student(), folder / FORMS[0], info=INFO)
    export(student(), folder / FORMS[1], info=INFO)
    save_pretrained(student(), folder / FORMS[2], info=INFO)
    for name in FORMS[3:]:
        export(student(), folder / name, info=INFO)
    return {name: folder / name for name in FORMS}


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 61, 3), dtype=np.uint8)
    path = tmp_path / "picture.png"
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize("form", FORMS)
def test_every_form_says_how_it_is_used(files: dict[str, Path], form: str):
    about = describe(files[form])
    assert NetworkInfo.from_json(about["info"]) == INFO
    assert about["classes"][1] == "sea lion"
    assert about["preprocessing"]["mean"] == [0.5, 0.4, 0.3]
    if form.startswith("net"):
        assert about["image_size"] == [24, 24]


def test_the_pair_notices_changed_constants(files: dict[str, Path], tmp_path: Path):
    source = files["packed.safetensors"]
    text = json.loads(source.with_suffix(".json").read_text())
    text["info"]["preprocessing"]["mean"][0] = 0.51
    (tmp_path / "net.json").write_text(json.dumps(text))
    (tmp_path / "net.safetensors").write_bytes(source.read_bytes())
    with pytest.raises(
        InputError, match=r"info.preprocessing.mean: \[0.51, 0.4, 0.3\] in net.json, \[0.5, 0.4"
    ):
        load_network(tmp_path / "net.safetensors")


def test_the_card_says_it_too(files: dict[str, Path]):
    card = (files["hub"] / "README.md").read_text()
    assert "| Input | 24 x 24 pixels, RGB, channels first |" in card
    assert "mean (0.5, 0.4, 0.3), std (0.2, 0.25, 0.3)" in card
    assert "| Test accuracy | 75.00 % of 40 images |" in card
    assert "| Made by | kd ii-kd, seed 3 |" in card


def reference(path: Path) -> torch.Tensor:
    """The network's input by the definition: central square, bilinear, (x / 255 - mean) / std; Pillow and NumPy."""
    image = Image.open(path).convert("RGB")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side)).resize((24, 24), Image.Resampling.BILINEAR)
    values = (np.asarray(square, np.float64) / 255 - STEPS.mean) / STEPS.std
    return torch.from_numpy(values.transpose(2, 0, 1)[None]).float()


def test_an_image_as_the_networks_input(picture: Path):
    torch.testing.assert_close(prepare_image(picture, STEPS)[None], reference(picture), rtol=1e-6, atol=1e-6)
    whole = Preprocessing(STEPS.mean, STEPS.std, (24, 24), resize=32)
    image = Image.open(picture).crop((10, 0, 50, 40)).resize((32, 32), Image.Resampling.BILINEAR)
    inner = np.asarray(image.crop((4, 4, 28, 28)), np.float64) / 255
    expected = torch.from_numpy(((inner - STEPS.mean) / STEPS.std).transpose(2, 0, 1)).float()
    torch.testing.assert_close(prepare_image(picture, whole), expected, rtol=1e-6, atol=1e-6)
    gray = Preprocessing((0.5,), (0.25,), (24, 24), channels="L")
    assert prepare_image(picture, gray).shape == (1, 24, 24)


@pytest.mark.parametrize("form", FORMS)
def test_classes_and_probabilities(files: dict[str, Path], picture: Path, form: str):
    (found,) = predict(files[form], [picture])
    with torch.no_grad():
        expected = student()(reference(picture)).softmax(1)[0]
    assert list(found) == [INFO.classes[index] for index in expected.argsort(descending=True)]
    assert [found[name] for name in INFO.classes] == pytest.approx(expected.tolist(), abs=1e-3)
    assert sum(found.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("script", "form"), [("classify_onnx", "net.onnx"), ("classify_openvino", "net.xml")]
)
def test_the_examples_need_one_runtime_alone(files: dict[str, Path], picture: Path, script: str, form: str):
    path = ROOT / "examples" / f"{script}.py"
    source = path.read_text()
    assert "rolewise as" not in source
    assert "import rolewise" not in source
    assert "torch" not in source
    done = subprocess.run(
        [sys.executable, str(path), str(files[form]), str(picture)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == next(iter(predict(files[form], [picture])[0]))


def test_images_that_cannot_be_read(files: dict[str, Path], tmp_path: Path):
    with pytest.raises(InputError, match=r"Cannot read .*absent.png: No such file"):
        predict(files["hub"], [tmp_path / "absent.png"])
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(InputError, match=r"text.png is no image of a known format"):
        predict(files["hub"], [tmp_path / "text.png"])


def test_a_file_without_constants(tmp_path: Path, picture: Path):
    with pytest.raises(
        InputError, match="does not say how images are prepared .* Export it again from its run"
    ):
        predict(export(build("cnn-tiny"), tmp_path / "net.safetensors"), [picture])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"channels": "BGR"}, "`channels` must be one of RGB, L, got 'BGR'"),
        ({"mean": (0.5,)}, "`mean` must hold 3 numbers"),
        ({"mean": (0.5, float("nan"), 1)}, "`mean` must hold 3 numbers"),
        ({"std": (0.5, 0, 1)}, "`std` must hold 3 numbers above 0"),
        ({"std": (float("nan"), 1, 1)}, "`std` must hold 3 numbers above 0"),
        ({"size": (0, 3)}, "`size` must be height and width"),
        ({"resize": 20}, "`resize` must be at least the greater side of `size`, got 20"),
    ],
)
def test_impossible_preparations(arguments: dict[str, object], message: str):
    good = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "size": (24, 24)}
    with pytest.raises(InputError, match=message):
        Preprocessing(**{**good, **arguments})  # type: ignore[arg-type]


def test_no_image_has_no_class(files: dict[str, Path]):
    assert predict(files["packed.safetensors"], []) == []


def test_other_classes_than_the_network_has(tmp_path: Path):
    with pytest.raises(InputError, match="`info` names 2 classes, but the network has 10"):
        save_network(build("cnn-tiny"), tmp_path / "net", info=NetworkInfo(classes=("a", "b")))


def test_class_names_that_utf8_cannot_write(tmp_path: Path):
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    info = NetworkInfo(preprocessing=STEPS, classes=(name, "tea | green"))
    model = build("cnn-tiny", num_classes=2)
    folder = save_pretrained(model, tmp_path / "hub", info=info)
    assert describe(folder)["classes"][0] == name
    assert "tea \\| green" in (folder / "README.md").read_text()
    for target in ("net.onnx", "net.xml"):
        assert describe(export(model, tmp_path / target, info=info))["classes"][0] == name


@pytest.mark.parametrize(
    ("extra", "fault"),
    [
        ({"classes": 5}, "`classes` must be a list of names, got 5"),
        ({"classes": ["a", 2]}, "`classes` must be a list of names"),
        ({"classes": list("abcdefghi")}, "`info` names 9 classes, but the network has 10"),
        ({"accuracy": "high"}, "`accuracy` must be a fraction from 0 to 1"),
        ({"preprocessing": [1]}, "`preprocessing` must be an object"),
        ({"test_images": -1, "data": 3}, "`data` must be a name, got 3; `test_images`"),
    ],
)
def test_a_description_of_another_form_is_refused_by_name(tmp_path: Path, extra: dict, fault: str) -> None:
    path = save_network(build("cnn-tiny"), tmp_path / "net", extra=extra)
    with pytest.raises(InputError, match=rf"net\.safetensors describes its use.*{fault}"):
        describe(path)
    load_network(path)
