"""What training in bfloat16 costs against training in float32, at 32, 4 and 2 bits, on real images.

    python benchmarks/precision.py --data-root ~/data            # 5 seeds; can be stopped and resumed

CIFAR-10, the first 4,000 images of the search's shuffle, all 10,000 test images, `cnn-small`, 30 epochs. Every network
is tested in float32, whatever it was trained in. The two trainings of a seed share initial weights, teacher, order of
images and augmentation, so that their difference is paired. Students begin with the weights of a float teacher, which
is trained in float32, and learn from it by soft labels. Each training is kept in `--out` (ignored by git); the figures
of what is done are written to `results/precision/training.json` after each one.
"""

import argparse
import copy
import json
import statistics
from pathlib import Path
from typing import Any

import torch
from common import origin, training_parser, write_results

import rolewise as rw
from rolewise import kd, networks
from rolewise.data import Data
from rolewise.experiments.statistics import paired_difference
from rolewise.pretrained import load_network, save_network
from rolewise.seeds import torch_generator

NETWORK, IMAGES, BATCH = "cnn-small", 4_000, 64
PRECISIONS = ("fp32", "bf16")


class Comparison:
    """Trains both sides of each pair, each once."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.out = options, Path(options.out)
        if options.smoke:
            whole, self.network, images = rw.load_data("digits"), "cnn-tiny", 256
            train, _ = whole.reduced(images, 100)
        else:
            whole, self.network, images = rw.load_data("cifar10", options.data_root), NETWORK, IMAGES
            train, _ = whole.reduced(images, 36_000)
        self.images = images
        self.data = Data(whole.name, train, lambda: whole.test)

    def accuracy(self, bits: int, precision: str, seed: int) -> float:
        """Test accuracy in float32 of a training, which is done now if it has not been."""
        folder = self.out / f"{bits}bit-{precision}-seed{seed}"
        done = folder / "done.json"
        if done.exists():
            return float(json.loads(done.read_text("utf-8"))["accuracy"])
        if bits == 32:
            model, objective = networks.build(self.network, num_classes=10), None
            model.reset(torch_generator(seed, "precision"))
        else:
            self.accuracy(32, "fp32", seed)
            teacher = load_network(self.out / f"32bit-fp32-seed{seed}" / "network.safetensors")
            model = rw.quantize(copy.deepcopy(teacher), bits, bits)
            objective = rw.Distill(teacher.eval(), kd.LOSSES["soft"]())
        result = rw.train(
            model,
            self.data,
            objective=objective,
            epochs=self.options.epochs,
            seed=seed,
            out=folder,
            resume=(folder / "config.json").exists(),
            precision=precision,
            batch_size=BATCH,
            threads=1,
            lr=0.1 if bits == 32 else 1e-3,
        )
        save_network(model, folder / "network.safetensors")
        part = folder / "done.part"
        part.write_text(json.dumps({"accuracy": result.accuracy, "n": result.n}), "utf-8")
        part.replace(done)
        return result.accuracy

    def known(self, bits: int, precision: str, seed: int) -> float | None:
        """What is done already."""
        done = self.out / f"{bits}bit-{precision}-seed{seed}" / "done.json"
        return float(json.loads(done.read_text("utf-8"))["accuracy"]) if done.exists() else None

    def rows(self) -> list[dict[str, Any]]:
        """For each bit-width, what both precisions gave, and bfloat16 minus float32."""
        found = []
        for bits in self.options.bits:
            pairs = [
                (seed, *(self.known(bits, precision, seed) for precision in PRECISIONS))
                for seed in range(self.options.seeds)
            ]
            whole = [pair for pair in pairs if None not in pair]
            if not whole:
                continue
            sides = {name: [pair[1 + index] for pair in whole] for index, name in enumerate(PRECISIONS)}
            row: dict[str, Any] = {"bits": bits, "seeds": [pair[0] for pair in whole], **sides}
            row |= {f"mean {name}": statistics.mean(values) for name, values in sides.items()}
            if len(whole) > 1:
                row["bf16 minus fp32"] = vars(paired_difference(sides["bf16"], sides["fp32"]))
            found.append(row)
        return found

    def write(self) -> None:
        """The figures with their origin."""
        content = {
            **origin("precision"),
            "data": self.data.name,
            "network": self.network,
            "training images": self.images,
            "epochs": self.options.epochs,
            "rows": self.rows(),
        }
        write_results(self.options.results, content)


def main(arguments: list[str] | None = None) -> None:
    parser = training_parser(__doc__, "precision", "training.json", seeds=5, epochs=30)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    comparison = Comparison(options)
    for seed in range(options.seeds):
        for bits in options.bits:
            for precision in PRECISIONS:
                found = comparison.accuracy(bits, precision, seed)
                print(f"seed {seed}, {bits} bits, {precision}: {100 * found:.2f} %", flush=True)
                comparison.write()


if __name__ == "__main__":
    main()
