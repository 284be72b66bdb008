"""Writes the package's `digits.npz` from the published table, "make_digits.py digits.csv.gz digits.npz".

The table is the one that scikit-learn's wheel carries (`sklearn/datasets/data/digits.csv.gz`): 1,797 rows of
64 pixels, 0..16, and the label. Only this script writes the file; the tests check it against the rules below.
"""

import sys
from pathlib import Path

import numpy as np

SEED = 0
HELD_OUT = 36  # images of each class in the test part, and again in the validation part


def division(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(training images, test images) as positions in the table.

    Each class is shuffled by one generator; of each, the last 36 are test images, the 36 before them
    validation images, the rest is for training in a search. Those are put in an order in which the classes
    alternate in proportion to their size, so that any first part of it is balanced too. Finally the training
    images are listed such that the shuffle common to all data sets (`RandomState(0)`) puts them into that
    order.
    """
    rng = np.random.RandomState(SEED)
    search: list[tuple[float, int, int]] = []
    validation: list[tuple[float, int, int]] = []
    test: list[tuple[float, int, int]] = []
    for label in range(10):
        members = np.flatnonzero(labels == label)
        rng.shuffle(members)
        parts = members[: -2 * HELD_OUT], members[-2 * HELD_OUT : -HELD_OUT], members[-HELD_OUT:]
        for part, out in zip(parts, (search, validation, test), strict=True):
            out += [((rank + 0.5) / len(part), label, int(member)) for rank, member in enumerate(part)]
    ordered = [member for part in (search, validation) for _, _, member in sorted(part)]
    shuffled = np.arange(len(ordered))
    np.random.RandomState(0).shuffle(shuffled)
    train = np.empty(len(ordered), dtype=np.uint16)
    train[shuffled] = ordered
    return train, np.array([member for _, _, member in sorted(test)], dtype=np.uint16)


def main() -> None:
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    table = np.loadtxt(source, delimiter=",", dtype=np.uint8)
    images, labels = table[:, :-1].reshape(-1, 8, 8), table[:, -1]
    train, test = division(labels)
    np.savez_compressed(target, images=images, labels=labels, train=train, test=test)


if __name__ == "__main__":
    main()
