"""The paper's sentences as claims, on its own tables and on the study."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Literal

from rolewise.bits import FULL
from rolewise.experiments import study
from rolewise.experiments.claims import Claim, Comparison, Quantity, Verdict, judge
from rolewise.experiments.results import Results
from rolewise.experiments.setups import bits_name
from rolewise.experiments.tables import DATA, LOSSES, NETWORKS

REACHES = 0.005  # half a point: so much below still counts as reached
LATE = 0.1  # part of a schedule that must pass before it "starts without augmentation"


def verdicts(results: Results) -> tuple[Verdict, ...]:
    """A sentence on all claims in whose scope any cell was requested."""
    scopes = {"study" if one.cell.table == "study" else "paper" for one in results.cells}
    return tuple(judge(claim, results) for claim in CLAIMS if claim.scope in scopes)


def _accuracy(title: str, better: str, worse: str, margin: float = 0.0) -> Comparison:
    return Comparison(title, (Quantity(better),), (Quantity(worse),), margin)


def _table2(data: str, network: str, bits: int, kind: str, schedule: str) -> str:
    return f"table2/{data}/{network}/{bits_name(bits)}/{kind}/{schedule}"


def _pairs() -> Iterator[tuple[str, str, str]]:
    for network, shown in NETWORKS.items():
        for data, title in DATA.items():
            yield data, network, f"{shown} {title}"


_LOW = (4, 2)


def _paper_claims() -> Iterator[Claim]:
    yield Claim(
        "distillation", "Distillation beats training without it at low bits", "table 2", "paper",
        tuple(
            _accuracy(
                f"{title}, {bits} bit: II-KD only against vanilla",
                _table2(data, network, bits, "ii-kd", "none"),
                _table2(data, network, bits, "no-kd", "none"),
            )
            for data, network, title in _pairs() for bits in _LOW
        ),
    )  # fmt: skip
    yield Claim(
        "own-schedule", "The student's own schedule beats the teacher's, for every loss", "table 3", "paper",
        tuple(
            _accuracy(
                f"{shown}, {LOSSES[loss]}: A_S against A_T",
                f"table3/cifar100/{network}/w4a4/{loss}/a_s",
                f"table3/cifar100/{network}/w4a4/{loss}/a_t",
            )
            for network, shown in NETWORKS.items() for loss in ("dml", "mhgd", "ii-kd")
        ),
    )  # fmt: skip
    yield Claim(
        "ii-kd", "II-KD is the best of the six losses", "table 1", "paper",
        tuple(
            _accuracy(
                f"{bits} bit: II-KD against {LOSSES[loss]}",
                f"table1/cifar100/resnet18/w{bits}a{bits}/ii-kd/a_s",
                f"table1/cifar100/resnet18/w{bits}a{bits}/{loss}/a_s",
            )
            for bits in _LOW for loss in LOSSES if loss != "ii-kd"
        ),
    )  # fmt: skip
    yield Claim(
        "stage-beta", "Stage beta beats distillation alone", "table 2", "paper",
        tuple(
            _accuracy(
                f"{title}, {bits} bit: with A_S against without a schedule",
                _table2(data, network, bits, "ii-kd", "a_s"),
                _table2(data, network, bits, "ii-kd", "none"),
            )
            for data, network, title in _pairs() for bits in _LOW
        ),
    )  # fmt: skip
    yield Claim(
        "stage-alpha", "Stage alpha helps full precision, and low bits less", "table 2", "paper",
        tuple(_alpha(data, network, title, bits) for data, network, title in _pairs() for bits in (FULL, *_LOW)),
    )  # fmt: skip
    yield Claim(
        "four-bits", "4 bits reach full precision on CIFAR-10 (within half a point)", "table 2", "paper",
        tuple(
            _accuracy(
                f"{shown}: 4 bit after stage beta against vanilla 32 bit, half a point added",
                _table2("cifar10", network, 4, "ii-kd", "a_s"),
                _table2("cifar10", network, FULL, "no-kd", "none"),
                REACHES,
            )
            for network, shown in NETWORKS.items()
        ),
    )  # fmt: skip
    yield _figure3(
        "paper",
        "table2/cifar100/resnet18/fp32/no-kd/a_t",
        {"4 bit": "table1/cifar100/resnet18/w4a4/ii-kd/a_s"},
    )


def _alpha(data: str, network: str, title: str, bits: int) -> Comparison:
    def cell(width: int, schedule: str) -> Quantity:
        return Quantity(_table2(data, network, width, "no-kd", schedule))

    if bits == FULL:
        return Comparison(
            f"{title}, 32 bit: A_T against vanilla", (cell(FULL, "a_t"),), (cell(FULL, "none"),)
        )
    return Comparison(
        f"{title}: gain at 32 bit against gain at {bits} bit",
        (cell(FULL, "a_t"), cell(bits, "none")),
        (cell(FULL, "none"), cell(bits, "a_t")),
    )


def _figure3(scope: Literal["paper", "study"], teacher: str, students: Mapping[str, str]) -> Claim:
    comparisons: list[Comparison] = []
    for title, student in students.items():
        start, changes = Quantity(student, "first_epoch"), Quantity(student, "changes")
        comparisons += [
            Comparison(
                f"{title}: part of A_S before its first augmentation, above {LATE:g}",
                (start,),
                (),
                -LATE,
                points=False,
            ),
            Comparison(
                f"{title}: changes of policy, A_T less A_S",
                (Quantity(teacher, "changes"),),
                (changes,),
                points=False,
            ),
        ]
    return Claim(
        "figure3",
        "The student's schedule starts without augmentation and changes less often than the teacher's",
        "figure 3", scope, tuple(comparisons),
    )  # fmt: skip


def _study(bits: int, kind: str, schedule: str) -> str:
    return f"study/{study.DATA}/{study.NETWORK}/{bits_name(bits)}/{kind}/{schedule}"


def _study_claims() -> Iterator[Claim]:
    yield Claim(
        "stage-alpha", "Stage alpha helps full precision", "table 2", "study",
        (_accuracy("A_T against none", _study(FULL, "teacher", "a_t"), _study(FULL, "teacher", "none")),),
    )  # fmt: skip
    for loss in study.LOSSES:
        yield from _study_claims_of(loss)
    yield Claim(
        "ii-kd", "II-KD beats soft labels, each with its own schedule", "table 1", "study",
        tuple(
            _accuracy(f"{bits} bit", _study(bits, "ii-kd", "a_s"), _study(bits, "soft", "a_s"))
            for bits in study.BITS
        ),
    )  # fmt: skip


def _study_claims_of(loss: str) -> Iterator[Claim]:
    """The claims about one loss: losses are run one after the other, and each is judged as soon as it is there."""

    def each(name: str, sentence: str, source: str, better: str, worse: tuple[str, str]) -> Claim:
        comparisons = tuple(
            _accuracy(f"{bits} bit", _study(bits, loss, better), _study(bits, *worse)) for bits in study.BITS
        )
        return Claim(f"{name}-{loss}", f"{LOSSES[loss]}: {sentence}", source, "study", comparisons)

    yield each(
        "distillation", "distillation beats training from scratch without it at low bits", "table 2",
        "none", ("no-kd", "none"),
    )  # fmt: skip
    yield each(
        "distillation-alone", "distillation beats the teacher's weights alone (not in the paper)", "own question",
        "none", ("init", "none"),
    )  # fmt: skip
    yield each(
        "own-schedule", "the student's own schedule beats the teacher's", "table 3", "a_s", (loss, "a_t")
    )
    yield each("stage-beta", "stage beta beats distillation alone", "table 2", "a_s", (loss, "none"))
    yield each(
        "order", "A_S beats its own policies in random order (not in the paper)", "own question",
        "a_s", (loss, "shuffled"),
    )  # fmt: skip
    yield each(
        "search", "A_S beats random policies (not in the paper)", "own question", "a_s", (loss, "random"),
    )  # fmt: skip
    yield Claim(
        f"four-bits-{loss}", f"{LOSSES[loss]}: 4 bits reach full precision (within half a point)", "table 2", "study",
        (
            _accuracy(
                "4 bit after stage beta against 32 bit without a schedule, half a point added",
                _study(4, loss, "a_s"),
                _study(FULL, "teacher", "none"),
                REACHES,
            ),
        ),
    )  # fmt: skip
    students = {f"{bits} bit": _study(bits, loss, "a_s") for bits in study.BITS}
    figure = _figure3("study", _study(FULL, "teacher", "a_t"), students)
    yield replace(
        figure, name=f"figure3-{loss}",
        sentence=f"{LOSSES[loss]}: {figure.sentence[0].lower()}{figure.sentence[1:]}",
    )  # fmt: skip


CLAIMS: tuple[Claim, ...] = (*_paper_claims(), *_study_claims())
