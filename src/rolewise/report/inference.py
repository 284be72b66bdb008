"""Size and speed of a run's student on the machine at hand: the record `inference.json`, and what the report says."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import nn

from rolewise import pretrained
from rolewise._roles import STUDENT
from rolewise.errors import InputError
from rolewise.report.load import Run
from rolewise.runs import file_digest, layout, load_json, to_json, write_atomic

_BATCHES = (1, 64)
_BASE = "onnxruntime float32"  # what the other runtimes are compared with
_FORMAT, _VERSION = "rolewise.inference", 1
_AGAIN = "`rolewise report RUN --speed` measures it on the machine at hand."


def measure(
    run_dir: Path,
    model: nn.Module,
    *,
    image_size: tuple[int, int],
    batches: tuple[int, ...] = _BATCHES,
    threads: int = 1,
    seconds: float = 1.0,
    rounds: int = 10,
) -> Path:
    """Measures a run's student and writes the record, which also says why nothing could be measured.

    Args:
        run_dir: the run directory.
        model: its student.
        image_size: height and width.
        batches: batch sizes.
        threads: threads of each runtime.
        seconds: time for each batch size, all runtimes together.
        rounds: turns of the runtimes at least, whatever time they take.

    Returns:
        The record's path.

    Raises:
        InputError: no student's file, or a directory that cannot be written.
    """
    student = run_dir / layout.network_file(STUDENT)
    record: dict[str, Any] = {"format": _FORMAT, "format_version": _VERSION}
    record["student_sha256"] = file_digest(student)
    try:
        record["measured"] = pretrained.cost_report(
            model,
            image_size=image_size,
            batches=batches,
            threads=threads,
            seconds=seconds,
            rounds=rounds,
            openvino=None,
            # Other processes lengthen what the clock says; processor time of several threads is no latency.
            clock=time.process_time if threads == 1 else time.perf_counter,
        )
    except InputError as error:  # a missing package, or a network that cannot be exported
        record["reason"] = str(error)
    except Exception as error:  # the runtimes' errors have no common base; a finished run keeps its report
        said = str(error).strip().splitlines() or [""]
        record["reason"] = f"a runtime failed, {type(error).__name__}: {said[0]}"
    target = run_dir / layout.INFERENCE
    try:
        write_atomic(target, to_json(record))
    except OSError as error:
        raise InputError(f"Cannot write {target}: {error.strerror or error}.") from error
    return target


def is_measured(run_dir: Path) -> bool:
    """Whether the record is that of the student as it is now."""
    try:
        found = read(run_dir)
    except InputError:
        return False
    return found is not None and found["measured"] is not None and _is_current(run_dir, found)


class _Measured(BaseModel):
    """The entries of `cost_report` that the report shows; further keys stay."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    image_size: tuple[int, int]
    files: dict[str, dict[str, int]]
    latency_ms: dict[str, dict[str, float]]
    turns: dict[str, int]
    clock: str
    executed: dict[str, Any] | None
    threads: int = Field(ge=1)
    versions: dict[str, str]
    features: list[str]
    hardware: dict[str, Any]


class _Record(BaseModel):
    """`inference.json`."""

    student_sha256: str
    measured: _Measured | None = None
    reason: str | None = None


def read(run_dir: Path) -> dict[str, Any] | None:
    """The record of a run directory; None if there is none.

    Raises:
        InputError: it is not what `measure` writes; every fault is listed.
    """
    path = run_dir / layout.INFERENCE
    if not path.exists():
        return None
    try:
        found = _Record.model_validate(load_json(path)).model_dump()
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
        raise InputError(f"{path} cannot be used: {'; '.join(faults)}.") from None
    measured = found["measured"]
    if measured is not None and _BASE not in measured["latency_ms"]:
        raise InputError(f'{path} cannot be used: measured.latency_ms holds no "{_BASE}".')
    if measured is not None:
        try:
            for shown in (sentence, rows, notes):
                shown(measured)
        except (KeyError, ValueError, TypeError, StopIteration) as error:
            raise InputError(
                f"{path} cannot be used: an entry of `measured` is missing or of another type "
                f"({type(error).__name__}: {error})."
            ) from None
    return found


def inference(run: Run) -> dict[str, Any] | None:
    """The section on size and speed: its words and its table; None as long as there is no student."""
    if run.row(STUDENT) is None:
        return None
    try:
        record = read(run.path)
    except InputError as error:
        run.faults.append(str(error))
        record = None
    empty: dict[str, Any] = {"batches": [], "rows": [], "notes": []}
    if record is None:
        return empty | {"sentence": f"Not measured. {_AGAIN}"}
    if not _is_current(run.path, record):
        return empty | {"sentence": f"Measured for another network than this student. {_AGAIN}"}
    found = record["measured"]
    if found is None:
        return empty | {"sentence": f"Not measured: {record['reason']}"}
    return {
        "sentence": sentence(found),
        "batches": list(found["latency_ms"][_BASE]),
        "rows": rows(found),
        "notes": notes(found),
    }


def _is_current(run_dir: Path, record: Mapping[str, Any]) -> bool:
    file = run_dir / layout.network_file(STUDENT)
    return file.is_file() and file_digest(file) == record["student_sha256"]


def rows(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each runtime: bytes of its file, milliseconds of each batch size, speed relative to `_BASE`."""
    base = found["latency_ms"][_BASE]
    table = []
    for name, times in found["latency_ms"].items():
        size = _bytes(found, name)
        table.append(
            {
                "name": name,
                "low": name.endswith("low-bit"),
                "bytes": "\N{EN DASH}" if size is None else f"{size:,}",
                "times": [_milliseconds(value) for value in times.values()],
                "speeds": [_factor(base[batch], value) for batch, value in times.items()],
                "arithmetic": _arithmetic(name, found["executed"]),
            }
        )
    return table


def _bytes(found: Mapping[str, Any], name: str) -> int | None:
    """Bytes of the file that a runtime reads."""
    runtime, _, form = name.partition(" ")
    key = {
        "PyTorch": "safetensors_bytes",
        "onnxruntime": "onnx_bytes",
        "OpenVINO": "openvino_bytes",
    }.get(runtime, "")
    size: int | None = found["files"].get("low-bit" if form == "low-bit" else "float32", {}).get(key)
    return size


def _arithmetic(name: str, executed: Mapping[str, Any] | None) -> str:
    """The precision in which a runtime computes."""
    if name == "OpenVINO low-bit" and executed is not None:
        whole = executed["int8_macs"] + executed["float_macs"]
        return f"{100 * executed['int8_macs'] / max(whole, 1):.0f} % in 8-bit integers"
    if name == "onnxruntime low-bit":
        return "float32, weights decoded"
    return "bfloat16" if name.endswith("bfloat16") else "float32"


def sentence(found: Mapping[str, Any]) -> str:
    """Size and speed in one sentence."""
    files, times = found["files"], found["latency_ms"]
    cpu = found["hardware"].get("cpu") or "this processor"
    if "low-bit" not in files:
        best = min(times, key=lambda name: next(iter(times[name].values())))
        size = files["float32"]["safetensors_bytes"]
        return f"The student is in float32: {size:,} bytes, and {_one_batch(found, best)} on {cpu}."
    packed, plain = (files[form]["safetensors_bytes"] for form in ("low-bit", "float32"))
    name = next(name for name in ("OpenVINO low-bit", "onnxruntime low-bit") if name in times)
    batch = next(iter(times[name]))
    speed = _factor(times[_BASE][batch], times[name][batch])
    return (
        f"Packed, the student takes {packed:,} bytes instead of {plain:,} in float32 ({plain / packed:.1f} times "
        f"smaller), and {_one_batch(found, name)} on {cpu}: {speed} the speed of its float32 form in onnxruntime."
    )


def _one_batch(found: Mapping[str, Any], name: str) -> str:
    batch, value = next(iter(found["latency_ms"][name].items()))
    what = "one image takes" if batch == "1" else f"{batch} images take"
    runtime, _, form = name.partition(" ")
    return f"{what} {_milliseconds(value)} with {runtime}{'' if form == 'low-bit' else f' in {form}'}"


def notes(found: Mapping[str, Any]) -> list[str]:
    """How the table was measured, and what is not in it."""
    turns, threads = found["turns"], found["threads"]
    counts = ", ".join(f"{count} for batch {batch}" for batch, count in turns.items())
    features = f" with {', '.join(found['features'])}" if found["features"] else ""
    height, width = found["image_size"]
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    what = "processor time" if found["clock"] == "process_time" else "time"
    said = [
        f"Median {what} of alternating turns ({counts}) with {threads} thread{'s' if threads > 1 else ''} on "
        f"{found['hardware'].get('cpu') or 'a processor'}{features}; images of {height}x{width} pixels; {versions}. "
        "Speeds are relative to onnxruntime in float32."
    ]
    said += _calls(found)
    if "onnxruntime low-bit" in found["latency_ms"]:
        said.append("onnxruntime decodes low-bit weights when it loads the file, and computes in float32.")
    executed = found["executed"]
    if executed is None:
        said.append(
            'OpenVINO, which computes in 8-bit integers, is not installed: pip install "rolewise[openvino]".'
        )
    elif executed["float_layers"]:
        layers = [f"{one['name']} ({one['reason']})" for one in executed["float_layers"]]
        more = f", and {len(layers) - 5} more" if len(layers) > 5 else ""
        said.append(f"Quantized layers that OpenVINO executes in float32: {', '.join(layers[:5])}{more}.")
    return said


def _calls(found: Mapping[str, Any]) -> list[str]:
    """Says so where a single image takes the time of a call rather than that of its arithmetic."""
    name = next((name for name in reversed(found["latency_ms"]) if name.endswith("low-bit")), _BASE)
    times = {int(batch): value for batch, value in found["latency_ms"][name].items()}
    few, many = min(times), max(times)
    if times[many] / many > times[few] / few / 4:
        return []
    return [
        f"With {name} an image takes {_milliseconds(times[many] / many)} in a batch of {many} and "
        f"{_milliseconds(times[few] / few)} in a batch of {few}: most of the latter is the cost of the call, which "
        "fewer bits do not lower."
    ]


def _milliseconds(value: float) -> str:
    digits = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:.{digits}f} ms"


def _factor(base: float, value: float) -> str:
    if not value:
        return "\N{EN DASH}"
    return f"{base / value:.{1 if base / value >= 0.95 else 2}f}\N{MULTIPLICATION SIGN}"
