"""Weights under the names of RepDistiller and mdistiller, whose networks are written here from their architecture."""

import pickle
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from rolewise.cli import main
from rolewise.errors import InputError
from rolewise.networks import build
from rolewise.pretrained import describe, import_weights, load_network, read_state

IMAGES = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


class TheirBlock(nn.Module):
    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.downsample = None
        if stride != 1 or inputs != width:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: Tensor) -> Tensor:
        rest = x if self.downsample is None else self.downsample(x)
        return self.relu(self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))) + rest)


class TheirResNet(nn.Module):
    """`resnet8x4`: stem of 32 channels, one block in each of three stages."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1, self.relu = (
            nn.Conv2d(3, 32, 3, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
        )
        self.layer1 = nn.Sequential(TheirBlock(32, 64, 1))
        self.layer2 = nn.Sequential(TheirBlock(64, 128, 2))
        self.layer3 = nn.Sequential(TheirBlock(128, 256, 2))
        self.avgpool, self.fc = nn.AvgPool2d(8), nn.Linear(256, 100)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        return self.fc(self.avgpool(self.layer3(self.layer2(self.layer1(x)))).flatten(1))


class TheirWideBlock(nn.Module):
    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1, self.relu1 = nn.BatchNorm2d(inputs), nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn2, self.relu2 = nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.convShortcut = None if inputs == width else nn.Conv2d(inputs, width, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.convShortcut is None:
            return x + self.conv2(self.relu2(self.bn2(self.conv1(self.relu1(self.bn1(x))))))
        x = self.relu1(self.bn1(x))
        return self.convShortcut(x) + self.conv2(self.relu2(self.bn2(self.conv1(x))))


class TheirStage(nn.Module):
    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.layer = nn.Sequential(TheirWideBlock(inputs, width, stride), TheirWideBlock(width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class TheirWideResNet(nn.Module):
    """`wrn_16_2`."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.block1, self.block2, self.block3 = (
            TheirStage(16, 32, 1),
            TheirStage(32, 64, 2),
            TheirStage(64, 128, 2),
        )
        self.bn1, self.relu, self.fc = nn.BatchNorm2d(128), nn.ReLU(inplace=True), nn.Linear(128, 100)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.block3(self.block2(self.block1(self.conv1(x))))))
        return self.fc(nn.functional.avg_pool2d(x, 8).flatten(1))


class TheirVGG(nn.Module):
    """`vgg8`: the ReLU of each stage lies outside of it."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 64, 128, 256, 512, 512)
        for index in range(5):
            conv = nn.Conv2d(widths[index], widths[index + 1], 3, padding=1)
            self.add_module(f"block{index}", nn.Sequential(conv, nn.BatchNorm2d(widths[index + 1])))
        self.classifier = nn.Linear(512, 100)

    def forward(self, x: Tensor) -> Tensor:
        for index in range(5):
            x = torch.relu(self.get_submodule(f"block{index}")(x))
            if index < 3:
                x = nn.functional.max_pool2d(x, 2)
        return self.classifier(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


PAIRS = {"resnet8x4": TheirResNet, "wrn-16-2": TheirWideResNet, "vgg8": TheirVGG}


def theirs(name: str) -> nn.Module:
    """With running averages of their own."""
    torch.manual_seed(0)
    model = PAIRS[name]()
    with torch.no_grad():
        model.train()(torch.randn(8, 3, 32, 32))
    return model.eval()


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("wrapping", ["RepDistiller", "mdistiller", "plain", "DataParallel", "compiled"])
def test_the_same_logits(tmp_path: Path, name: str, wrapping: str):
    model = theirs(name)
    state = model.state_dict()
    content = {
        "RepDistiller": {"epoch": 240, "model": state, "best_acc": torch.tensor(72.5)},
        "mdistiller": {"model": state},
        "plain": state,
        "DataParallel": {"state_dict": OrderedDict((f"module.{key}", value) for key, value in state.items())},
        "compiled": {f"_orig_mod.module.{key}": value for key, value in state.items()},
    }[wrapping]
    torch.save(content, tmp_path / "teacher.pth")
    found = import_weights(tmp_path / "teacher.pth", build(name, num_classes=100, seed=5))
    with torch.no_grad():
        torch.testing.assert_close(found(IMAGES), model(IMAGES), rtol=1e-5, atol=1e-5)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    model = theirs("resnet8x4")
    torch.save({"model": model.state_dict()}, tmp_path / "t.pth")
    target = tmp_path / "out.safetensors"
    command = [
        "import-weights",
        str(tmp_path / "t.pth"),
        str(target),
        "--network",
        "resnet8x4",
        "--data",
        "cifar100",
    ]
    assert main(command) == 0
    assert capsys.readouterr().out == f"{target}\n"
    with torch.no_grad():
        torch.testing.assert_close(load_network(target)(IMAGES), model(IMAGES), rtol=1e-5, atol=1e-5)
    assert describe(target)["data"] == "cifar100"
    assert main(command) == 2
    assert "is there already" in capsys.readouterr().err


def test_what_does_not_fit(tmp_path: Path):
    torch.save(theirs("resnet8x4").state_dict(), tmp_path / "t.pth")
    with pytest.raises(InputError, match=r'do not fit the network "resnet20":\n  .*not in the file'):
        import_weights(tmp_path / "t.pth", build("resnet20", num_classes=100))
    with pytest.raises(InputError, match=r"fc.weight: \(100, 256\) in the file, \(10, 256\) in the network"):
        import_weights(tmp_path / "t.pth", build("resnet8x4"))


def test_safetensors_and_numbers_that_are_none(tmp_path: Path):
    state = {f"module.{key}": value for key, value in build("cnn-tiny", seed=3).state_dict().items()}
    save_file(state, tmp_path / "t.safetensors")
    model = import_weights(tmp_path / "t.safetensors", build("cnn-tiny"))
    assert torch.equal(model.conv1.weight, state["module.conv1.weight"])
    state["module.fc.weight"][0, 0] = torch.nan
    save_file(state, tmp_path / "bad.safetensors")
    before = model.fc.weight.clone()
    with pytest.raises(InputError, match="1 tensors hold NaN or infinity:\n  fc.weight"):
        import_weights(tmp_path / "bad.safetensors", model)
    assert torch.equal(model.fc.weight, before)


class Harmful:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path(HARM),))  # type: ignore[return-value]


HARM = "harm"


def test_nothing_in_the_file_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": Harmful()}, tmp_path / "t.pth")
    with pytest.raises(InputError, match="holds more than tensors and plain values"):
        read_state(tmp_path / "t.pth")
    (tmp_path / "raw.pth").write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(InputError, match="raw.pth"):
        read_state(tmp_path / "raw.pth")
    assert not (tmp_path / HARM).exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 broken"])
def test_damaged_files(tmp_path: Path, content: bytes):
    (tmp_path / "t.pth").write_bytes(content)
    with pytest.raises(InputError, match="t.pth"):
        read_state(tmp_path / "t.pth")


def test_files_without_a_network(tmp_path: Path):
    torch.save({"epoch": 3, "history": [1.0]}, tmp_path / "t.pth")
    with pytest.raises(
        InputError, match='holds no state of a network under a known name; it holds "epoch", "history"'
    ):
        read_state(tmp_path / "t.pth")
    with pytest.raises(InputError, match="There is no file .*absent.pth"):
        read_state(tmp_path / "absent.pth")
