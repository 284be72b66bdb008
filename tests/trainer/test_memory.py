"""Memory that a step frees stays with the process: counted in pages that the system has to clear."""

import os
import subprocess
import sys

import pytest

SCRIPT = """
import resource
from rolewise.trainer.memory import keep_freed_memory
print(keep_freed_memory())
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [b"x" * (8 << 20) for _ in range(20)]
    del blocks
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults)
"""


def run(**variables: str) -> list[str]:
    environment = {name: value for name, value in os.environ.items() if "MALLOC" not in name}
    environment.pop("GLIBC_TUNABLES", None)
    found = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
        env={**environment, **variables},
    )
    return found.stdout.split()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only the GNU C library has these limits")
def test_freed_memory_is_used_again_without_new_pages() -> None:
    kept, faults = run()
    if kept != "True":
        pytest.skip("this C library has no mallopt")
    assert int(faults) < 2_000  # of the 40,960 pages in 160 MiB


def test_the_users_own_limits_stay() -> None:
    assert run(MALLOC_TRIM_THRESHOLD_="1000000")[0] == "False"
