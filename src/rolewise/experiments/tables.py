"""Tables 1 to 4 and figure 3 of the role-wise paper as data (Fu et al., arXiv 2004.08861, section 5).

Accuracies in percent as printed; the paper does not state a number of seeds. What the paper leaves open is decided as
follows: the low-bit "teacher after stage alpha" takes the 32-bit network's schedule; all four columns of table 4 are
ResNet8, since ResNet18 has other numbers in table 2.
"""

from rolewise.bits import FULL
from rolewise.experiments.setups import Cell, Setup

LOSSES = {
    "soft": "Soft labels",
    "dml": "DML",
    "rkd": "RKD",
    "mhgd": "MHGD",
    "kd-svd": "KD-SVD",
    "ii-kd": "II-KD",
}
NETWORKS = {"alexnet": "AlexNet", "resnet18": "ResNet18"}
DATA = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}


def distilled(
    data: str, network: str, bits: int, loss: str, schedule: str, student: str | None = None
) -> Setup:
    """A student that starts from its teacher's weights, as the paper's do."""
    return Setup(data, network, student, bits=bits, loss=loss, schedule=schedule, start="teacher")


def plain(data: str, network: str, bits: int, schedule: str) -> Setup:
    """A network without a teacher: at 32 bits the teacher's own training, below that a low-bit one from scratch."""
    return Setup(data, network, role="teacher" if bits == FULL else "student", bits=bits, schedule=schedule)


def _table1() -> list[Cell]:
    numbers = {4: (70.48, 72.47, 71.84, 73.52, 73.92, 74.21), 2: (70.09, 69.72, 70.71, 71.80, 72.97, 73.35)}
    return [
        Cell("table1", f"{bits}/{bits}", title, distilled("cifar100", "resnet18", bits, loss, "a_s"), number)
        for bits, row in numbers.items()
        for (loss, title), number in zip(LOSSES.items(), row, strict=True)
    ]


_TABLE2 = {
    ("Vanilla training", 32): (90.58, 65.80, 93.57, 74.85),
    ("Vanilla training", 4): (89.72, 60.25, 90.97, 69.81),
    ("Vanilla training", 2): (88.77, 58.96, 90.00, 67.06),
    ("Teacher after stage alpha", 32): (91.62, 66.40, 94.49, 75.19),
    ("Teacher after stage alpha", 4): (90.06, 60.65, 91.47, 70.24),
    ("Teacher after stage alpha", 2): (89.28, 58.59, 89.99, 67.32),
    ("Student, II-KD only", 4): (90.55, 65.55, 91.42, 73.85),
    ("Student, II-KD only", 2): (89.18, 63.49, 90.60, 72.44),
    ("Student after stage beta", 4): (92.00, 65.69, 94.44, 74.21),
    ("Student after stage beta", 2): (90.63, 64.06, 93.20, 73.35),
}


def _table2() -> list[Cell]:
    columns = [(network, data) for network in NETWORKS for data in DATA]
    cells = []
    for (title, bits), row in _TABLE2.items():
        for (network, data), number in zip(columns, row, strict=True):
            schedule = {"Vanilla training": "none", "Teacher after stage alpha": "a_t"}.get(title)
            if schedule is not None:
                setup = plain(data, network, bits, schedule)
            else:
                setup = distilled(data, network, bits, "ii-kd", "a_s" if "beta" in title else "none")
            cells.append(
                Cell("table2", f"{title}, {bits} bit", f"{NETWORKS[network]} {DATA[data]}", setup, number)
            )
    return cells


def _table3() -> list[Cell]:
    losses = {"dml": "DML", "mhgd": "MHGD", "ii-kd": "II-KD"}
    numbers = {
        "a_t": ("Schedule based on the teacher (A_T)", (61.61, 61.62, 64.97, 71.78, 69.76, 73.46)),
        "a_s": ("Schedule based on the student (A_S)", (63.73, 63.47, 65.69, 72.47, 73.52, 74.21)),
    }
    columns = [(network, loss) for network in NETWORKS for loss in losses]
    return [
        Cell(
            "table3",
            title,
            f"{NETWORKS[network]} {losses[loss]}",
            distilled("cifar100", network, 4, loss, schedule),
            number,
        )
        for schedule, (title, row) in numbers.items()
        for (network, loss), number in zip(columns, row, strict=True)
    ]


def _table4() -> list[Cell]:
    data, row = "cifar100", "ResNet8, teacher ResNet18"
    vanilla = plain(data, "resnet8", FULL, "none")
    augmented = Setup(data, "resnet8", role="teacher", schedule="a_t", searched_network="resnet18")
    return [
        Cell("table4", row, "Vanilla", vanilla, 74.31),
        Cell("table4", row, "Retrained with PBA", augmented, 74.52),
        Cell(
            "table4", row, "II-KD only", distilled(data, "resnet18", FULL, "ii-kd", "none", "resnet8"), 75.52
        ),
        Cell(
            "table4",
            row,
            "After stage beta",
            distilled(data, "resnet18", FULL, "ii-kd", "a_s", "resnet8"),
            75.88,
        ),
    ]


# Figure 3: schedules, and so searches; their trainings are cells of the tables.
FIGURE3 = (
    plain("cifar100", "resnet18", FULL, "a_t"),
    distilled("cifar100", "resnet18", 4, "ii-kd", "a_s"),
)

TABLES: dict[str, tuple[Cell, ...]] = {
    "table1": tuple(_table1()),
    "table2": tuple(_table2()),
    "table3": tuple(_table3()),
    "table4": tuple(_table4()),
}
TITLES = {
    "table1": "Table 1: CIFAR-100, ResNet18, distillation losses, each with its own schedule",
    "table2": "Table 2: bit widths and stages",
    "table3": "Table 3: CIFAR-100, 4 bit, whose schedule",
    "table4": "Table 4: CIFAR-100, full precision, ResNet18 teaches ResNet8",
    "figure3": "Figure 3: the teacher's and the student's schedule",
    "study": "Study: reduced CIFAR-10, every arm under one budget",
}
