"""Compares every op with the newest Pillow 11, 12 and 13, each unpacked into a throw-away folder. `make exact`.

    python benchmarks/exact.py --data-root DIR   # with cifar-10-batches-py in it, for photographs as well

The counts are printed and written to `results/exact.json`. Exit status 1 if a single byte differs.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "reference"))
VERSIONS = (11, 12, 13)


def counted(root: str | None) -> dict[str, dict[str, int]]:
    """Comparisons and differences by kind of image, with the Pillow that this process imports."""
    import augment_exact as exact

    from rolewise.data import load_data

    rng = np.random.default_rng(1)
    counts = {"degenerate": Counter(), "chains of two": Counter(), "large": Counter()}
    for height, width in exact.SIZES:
        images = np.stack(list(exact.degenerate(height, width, rng)))
        counts["degenerate"] += exact.count_single(images, seed=height * 1000 + width)
    for height, width in ((512, 512), (511, 257), (224, 224)):
        images = np.stack(list(exact.degenerate(height, width, rng)))[[6, 7, 8, 9, 10]]
        counts["large"] += exact.count_single(images, seed=height)
    digits = load_data("digits").train.images.numpy()
    counts["digits"] = exact.count_single(exact.opaque(digits[:200]))
    pictures = [digits[0] // np.array([1, 2, 3], np.uint8) + np.array([0, 60, 120], np.uint8)]
    if root is not None:
        photographs = load_data("cifar10", root).train.images.numpy()
        counts["photographs"] = exact.count_single(exact.opaque(photographs[:500]))
        pictures += list(photographs[:5])
    for number, picture in enumerate(pictures):
        counts["chains of two"] += exact.count_chains(exact.opaque(picture), exact.cases(), seed=number)
    return {
        kind: {"compared": found["compared"], "differ": sum(exact.differing(found).values())}
        for kind, found in counts.items()
    }


def with_pillow(major: int, root: str | None) -> dict[str, object]:
    """The counts of a process of its own that sees the newest Pillow of this major version."""
    with tempfile.TemporaryDirectory() as folder:
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder]
        subprocess.run([*install, f"pillow=={major}.*"], check=True)
        command = [sys.executable, __file__, "--here", *([] if root is None else ["--data-root", root])]
        shown = subprocess.run(
            command, env={**os.environ, "PYTHONPATH": folder}, check=True, stdout=subprocess.PIPE, text=True
        )
    return json.loads(shown.stdout)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-root", help="folder that holds cifar-10-batches-py")
    parser.add_argument(
        "--here", action="store_true", help="count with the Pillow of this environment and print JSON"
    )
    options = parser.parse_args()
    if options.here:
        import PIL

        print(json.dumps({"pillow": PIL.__version__, "counts": counted(options.data_root)}))
        return 0
    from common import record

    figures = {}
    for major in VERSIONS:
        found = with_pillow(major, options.data_root)
        figures[f"Pillow {found['pillow']}"] = found["counts"]
    differ = sum(part["differ"] for counts in figures.values() for part in counts.values())
    record(
        "exact",
        figures,
        command="make exact" + (" DATA_ROOT=DIR" if options.data_root else ""),
        note="One comparison: all bytes of one image, alpha plane included.",
    )
    print(f"{differ} comparisons differ")
    return int(differ > 0)


if __name__ == "__main__":
    sys.exit(main())
