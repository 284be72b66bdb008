"""What writing and reading OpenVINO files share: the package, its settings, and the seal of a pair of files."""

import hashlib
import re
from functools import cache
from typing import Any

from rolewise.errors import missing_extra

STATED = "rolewise"
_SEAL = re.compile(rb"\n<!-- rolewise sha256 ([0-9a-f]{64}) weights ([0-9a-f]{64}) -->\n\Z")


def load_openvino() -> Any:
    """The package openvino.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import openvino
    except (ImportError, RuntimeError, OSError) as error:
        raise missing_extra("OpenVINO files", "openvino", "openvino", error) from error
    return openvino


def shared_core() -> Any:
    """The one `openvino.Core` of this process, which is never released.

    OpenVINO gives the calling thread a signal stack of its own with each `Core` that has compiled a network. Where two
    of them are released in the order in which they were made, the thread is left with one that is already unmapped,
    and the next signal that Python handles ends the process with a segmentation fault (seen with 2026.4.1).

    Raises:
        MissingExtraError: openvino is not installed.
    """
    return _core(load_openvino())


@cache
def _core(openvino: Any) -> Any:
    return openvino.Core()


def settings(threads: int | None, precision: str) -> dict[str, Any]:
    """Options of the CPU plugin.

    Args:
        threads: number of threads; None leaves it the choice.
        precision: "f32" or "bf16", for all that is not computed in integers.
    """
    found: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": precision,
        "PERFORMANCE_HINT": "LATENCY",
        # Else float inputs of linear layers with low-bit weights are rounded to 8 bits, which no network asked for.
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
    }
    if threads is not None:
        found["INFERENCE_NUM_THREADS"] = threads
    return found


def seal(text: bytes, weights: bytes) -> bytes:
    """Adds the SHA-256 of both files, as a comment behind the XML."""
    of_weights = hashlib.sha256(weights).hexdigest()
    whole = hashlib.sha256(text + of_weights.encode()).hexdigest()
    return text + f"\n<!-- rolewise sha256 {whole} weights {of_weights} -->\n".encode()


def unseal(data: bytes) -> tuple[bytes, str] | None:
    """The XML and the SHA-256 of the weights; None where the seal is missing or does not fit."""
    found = _SEAL.search(data)
    if found is None:
        return None
    text, of_weights = data[: found.start()], found[2]
    whole = hashlib.sha256(text + of_weights).hexdigest().encode()
    return (text, of_weights.decode()) if whole == found[1] else None
