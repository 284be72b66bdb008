"""A mistyped option or setting is refused before torch is imported, which takes seconds."""

import subprocess
import sys

import pytest

CODE = """
import sys
from rolewise.cli import main
status = main(sys.argv[1:])
print("torch" in sys.modules, "numba" in sys.modules, status)
"""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--sed", "1"], "No such option: --sed"),
        (["run", "--seed", "one"], "Invalid value for '--seed'"),
        (["run", "--set", "student.wieght_bits=2"], 'Did you mean "student.weight_bits"?'),
        (["run", "--set", "student.weight_bits=9"], "`student.weight_bits`: bits must be 1 to 8"),
        (["run", "--set", "seed"], "`--set` takes KEY=VALUE"),
        (["run", "--preset", "dmeo"], 'Did you mean "demo"?'),
        (["run", "--resume", "x", "--preset", "demo"], "`--preset` and `--config` go with `--out`"),
        (["run", "--dry-run", "--set", "sede=1"], 'Did you mean "seed"?'),
        (["search", "--role", "teacher", "--set", "search.populaton=8"], 'Did you mean "search.population"?'),
        (["train", "--role", "student", "--set", "student.train.epocs=8"], "student.train.epochs"),
        (["list", "losess"], 'Did you mean "losses"?'),
        (["nur"], "No such command 'nur'"),
    ],
)
def test_a_mistake_is_refused_without_torch(arguments: list[str], message: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE, *arguments], capture_output=True, text=True, check=False
    )
    assert " ".join(message.split()) in " ".join(done.stderr.replace("│", " ").split())
    assert done.stdout.split() == ["False", "False", "2"]
