"""The pilot of the study: which network and how many epochs keep its rule, on held-out training images alone.

The rule, stated before any of it was run: the plain teacher's training accuracy (on the images as they are) is above
95 %, its accuracy on held-out training images at least 10 points lower; the plain 2-bit student from scratch is at
least 2 points below the teacher on the held-out images. Of the candidates that keep it, the one whose training takes
the least time is chosen.

No test image is read: the held-out images take the place of the test part.
"""

import argparse
import json
import time
from functools import partial
from pathlib import Path

import torch

import rolewise as rw
from rolewise import networks, quant
from rolewise.data import Data, Split
from rolewise.networks.resnet import ResNet, make
from rolewise.seeds import torch_generator


def held_out_data(root: str, train: int, held_out: int) -> Data:
    """CIFAR-10's first `train` images of the search's shuffle, and the next ones in the test part's place."""
    whole = rw.load_data("cifar10", root=root)
    split, validation = whole.reduced(train, held_out)
    return Data("cifar10", split, lambda: validation)


def build(name: str) -> networks.Network:
    """A network by name, or a ResNet with a strided stem by its blocks and widths: cnn-small."""
    if not name.startswith("s2-"):
        return networks.build(name, num_classes=10)
    _, blocks, widths = name.split("-")
    channels = [int(width) for width in widths.split(".")]
    return make(name, partial(ResNet, [int(blocks)] * len(channels), channels, 32, 10, stem_stride=2), 10, 0)


def accuracy(model: torch.nn.Module, split: Split) -> float:
    """On the images as they are, in float32."""
    mean, std = torch.tensor(split.mean), torch.tensor(split.std)
    model.eval()
    right = 0
    with torch.no_grad():
        for at in range(0, len(split), 250):
            images = (split.images[at : at + 250] / 255 - mean) / std
            right += int((model(images.permute(0, 3, 1, 2)).argmax(1) == split.labels[at : at + 250]).sum())
    return right / len(split)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("network")
    parser.add_argument("epochs", type=int)
    parser.add_argument("--root", default="data")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--held-out", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--student-lr", type=float, default=1e-3)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--schedule", help="a PBA schedule's file, for the teacher")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    data = held_out_data(chosen.root, chosen.images, chosen.held_out)
    found = {key: str(value) if isinstance(value, Path) else value for key, value in vars(chosen).items()}
    common = {
        "epochs": chosen.epochs,
        "batch_size": chosen.batch,
        "seed": chosen.seed,
        "precision": chosen.precision,
    }
    for role, bits in (("teacher", 32), ("student", 2)):
        model = build(chosen.network)
        model.reset(torch_generator(chosen.seed, "init", role))
        own = {"optimizer": "sgd", "lr": 0.1, "weight_decay": 5e-4, "decay_scope": "all"}
        if bits < 32:
            quant.quantize(model, bits, bits)
            own = {
                "optimizer": "adam",
                "lr": chosen.student_lr,
                "weight_decay": 1e-5,
                "decay_scope": "weights",
            }
        schedule = None
        if chosen.schedule and role == "teacher":
            schedule = rw.Schedule.load(chosen.schedule, epochs=200).stretch(chosen.epochs)
        begun = time.process_time()
        rw.train(model, data, augment=schedule, **common, **own)
        found[role] = {
            "bits": bits,
            "train": accuracy(model, data.train),
            "held_out": accuracy(model, data.test),
            "cpu_seconds": round(time.process_time() - begun, 1),
        }
        if chosen.schedule:
            break
    line = json.dumps(found)
    print(line, flush=True)
    if chosen.out:
        with chosen.out.open("a") as file:
            file.write(line + "\n")


if __name__ == "__main__":
    main()
