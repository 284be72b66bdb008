"""`rolewise predict` with networks of own code, against the same network called by hand."""

import json
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rolewise.cli import main
from rolewise.networks.own import build_own
from rolewise.pretrained import NetworkInfo, Preprocessing, save_network, save_pretrained
from rolewise.quant import quantize

CODE = """
from torch import nn

class Small(nn.Module):
    def __init__(self, num_classes=3):
        super().__init__()
        self.first, self.act, self.last = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, num_classes, 3)
    def forward(self, x):
        return self.last(self.act(self.first(x))).mean((2, 3))

def make(num_classes=3):
    return Small(num_classes)
"""
STEPS = Preprocessing(mean=(0.5,) * 3, std=(0.25,) * 3, size=(8, 8))
INFO = NetworkInfo(preprocessing=STEPS, classes=("cat", "dog", "eel"))


@pytest.fixture
def code(tmp_path: Path) -> str:
    (tmp_path / "nets.py").write_text(textwrap.dedent(CODE))
    return f"{tmp_path / 'nets.py'}:make"


@pytest.mark.parametrize("form", ["pair", "folder"])
def test_a_network_of_own_code(
    code: str, form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = quantize(build_own(code, num_classes=3).model, 4, 4, act_points=["act"], skip=[]).eval()
    save = save_network if form == "pair" else save_pretrained
    file = save(model, tmp_path / "saved", info=INFO)
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    picture = tmp_path / "picture.png"
    Image.fromarray(pixels).save(picture)

    assert main(["predict", str(file), str(picture), "--network", code, "--json"]) == 0
    shares = json.loads(capsys.readouterr().out)["probabilities"]
    inputs = torch.from_numpy((pixels / 255 - 0.5) / 0.25).float().permute(2, 0, 1)[None]
    with torch.no_grad():
        expected = model(inputs)[0].double().softmax(0)
    assert [shares[name] for name in INFO.classes] == pytest.approx(expected.tolist(), abs=1e-6)

    assert main(["predict", str(file), str(picture)]) == 2
    message = capsys.readouterr().err
    assert "holds a Small, " in message
    assert "Name its code, which is then run: --network FILE.py:NAME." in message


def test_own_code_is_not_run_for_a_file_without_preparation(
    code: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = save_network(build_own(code, num_classes=3).model, tmp_path / "saved")
    (tmp_path / "nets.py").write_text("raise SystemExit('run')")
    assert main(["predict", str(file), "picture.png", "--network", code]) == 2
    assert "does not say how images are prepared" in capsys.readouterr().err
