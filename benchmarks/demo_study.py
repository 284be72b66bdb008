"""Whether augmentation and distillation can matter in the demo: few digits, 2 bits, several seeds.

The question was stated before anything was trained: is there a number of training images for which, on held-out
training images and over at least five seeds, the 2-bit student with distillation and augmentation beats the plain 2-bit
student by more than the 95 % interval of the paired difference? TrivialAugment stands in for a searched schedule, so
that a seed takes seconds. No test image is read: 600 held-out training images stand in the place of the test part.

    python benchmarks/demo_study.py --images 200 --epochs 40 >> results/demo/study.jsonl
    python benchmarks/demo_study.py --images 100 --epochs 60 >> results/demo/study.jsonl
"""

import argparse
import copy
import json
import time

import torch

import rolewise as rw
from rolewise import networks
from rolewise.data import Data
from rolewise.trainer import student_settings, teacher_settings, torch_threads

HELD_OUT = 600
_ARMS = {
    "student": (None, False),
    "student, TrivialAugment": (None, True),
    "student, soft": ("soft", False),
    "student, soft, TrivialAugment": ("soft", True),
    "student, ii-kd": ("ii-kd", False),
    "student, ii-kd, TrivialAugment": ("ii-kd", True),
}


def train(model: torch.nn.Module, data: Data, seed: int, epochs: int, *, augmented: bool, loss=None) -> float:
    """One training with the numbers of the preset `demo`; returns the held-out accuracy."""
    settings = student_settings(epochs, lr=2e-3) if loss is not None else teacher_settings(epochs, lr=0.1)
    schedule = rw.Schedule.named("trivialaugment", epochs) if augmented else None
    result = rw.train(
        model, data, objective=loss, augment=schedule, epochs=epochs, seed=seed, settings=settings,
        batch_size=32, flip=False, crop=2,
    )  # fmt: skip
    return result.accuracy


def one_seed(images: int, epochs: int, seed: int) -> dict[str, float]:
    """Held-out accuracy of each arm; every student begins with the weights of the augmented teacher."""
    split, held_out = rw.load_data("digits").reduced(images, HELD_OUT)
    data = Data("digits", split, lambda: held_out)
    found = {}
    teachers = {}
    for name, augmented in (("teacher", False), ("teacher, TrivialAugment", True)):
        teachers[name] = networks.build("cnn-tiny", num_classes=10, seed=seed)
        found[name] = train(teachers[name], data, seed, epochs, augmented=augmented)
    teacher = teachers["teacher, TrivialAugment"].eval()
    for name, (loss, augmented) in _ARMS.items():
        student = rw.quantize(copy.deepcopy(teacher), 2, 2)
        objective: rw.Objective = rw.CrossEntropy()
        if loss == "soft":
            objective = rw.Distill(teacher, rw.kd.LOSSES["soft"]())
        elif loss is not None:
            kd = rw.kd.IIKD(taps=["layer1", "layer2", "layer3"])
            objective = rw.Distill(teacher, kd, prepare_epochs=5)
        found[name] = train(student, data, seed, epochs, augmented=augmented, loss=objective)
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    asked = parser.parse_args()
    for seed in asked.seeds:
        begun = time.process_time()
        with torch_threads(1):
            found = one_seed(asked.images, asked.epochs, seed)
        row = {
            "images": asked.images,
            "epochs": asked.epochs,
            "bits": 2,
            "held_out": HELD_OUT,
            "seed": seed,
            "accuracy": {name: round(value, 4) for name, value in found.items()},
            "cpu_seconds": round(time.process_time() - begun, 1),
        }
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
