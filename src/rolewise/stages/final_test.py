"""The one look at the test images, in float32, as delivered files compute; predictions are kept for paired tests."""

from pathlib import Path

import torch
from safetensors.torch import save as safetensors_save
from torch import Tensor, nn
from torch.nn import functional as F

from rolewise.augment import normalize
from rolewise.data import Split
from rolewise.quant import frozen_weights
from rolewise.runs import write_atomic
from rolewise.trainer import Result, Trainer

_BATCH = 200  # images at a time, as evaluations on a CPU


def final_test(trainer: Trainer, split: Split, history: list[dict[str, float]], path: Path) -> Result:
    """Tests a trained network and writes `logits` (float32) and `labels` (int64) to `path`."""
    logits = _logits(trainer.model, split, trainer)
    path.parent.mkdir(exist_ok=True)
    write_atomic(path, safetensors_save({"logits": logits, "labels": split.labels.contiguous()}))
    accuracy = float((logits.argmax(1) == split.labels).double().mean())
    loss = float(F.cross_entropy(logits.double(), split.labels))
    batch = trainer.evaluate(split, batch_statistics=True)
    trainer.model.eval()
    return Result(accuracy, loss, len(split), batch.accuracy, history)


def _logits(model: nn.Module, split: Split, trainer: Trainer) -> Tensor:
    model.eval()
    device = trainer.placement.device
    found = []
    with torch.inference_mode(), frozen_weights(model):
        for start in range(0, len(split), _BATCH):
            pixels = split.images[start : start + _BATCH]
            images = normalize(pixels, trainer.split.mean, trainer.split.std, dtype=torch.float32)
            found.append(model(images.to(device)).float().cpu())
    return torch.cat(found).contiguous()
