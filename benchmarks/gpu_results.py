r"""Makes results of what `gpu_first.py` brought back from a GPU, one file for each commit that was measured.

    python benchmarks/gpu_results.py FIRST SECOND --results benchmarks/results/gpu.json --command "..."
    python benchmarks/gpu_results.py SECOND --part row --results results/gpu/row.json --command "..."

FIRST and SECOND are the `gpu.json` of two calls. A unit that several files hold is taken from the last of them in which
it was done. `--command` is what was called on the GPU machine, as the result shall name it.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import gpu_imports  # noqa: F401 - first: what follows may need its stand-in
from gpu_book import compared

from rolewise.errors import InputError
from rolewise.runs import write_atomic

_SUMMARY = ("FAILED", "ERROR", *"0123456789")  # of pytest's last lines


def result(contents: list[dict[str, Any]], part: str, command: str) -> dict[str, Any]:
    """One result of the units of a part ("measure" or "row").

    Raises:
        InputError: the files are of several commits or machines, or of tiny sizes.
    """
    origins = {
        json.dumps([content["commit"], content["options"], *_hardware(content)], sort_keys=True)
        for content in contents
    }
    if len(origins) != 1:
        raise InputError("The files are of several commits, options or machines: make a result of each.")
    first = contents[0]
    if first["options"]["smoke"]:
        raise InputError("Tiny sizes (`--smoke`) say nothing of speed: there is no result.")
    figures: dict[str, Any] = {}
    for content in contents:
        for name, found in content["figures"].items():
            if name.startswith("row: ") != (part == "row"):
                continue
            if name in figures and found.keys() & {"failed", "left out"}:
                continue
            figures[name] = {key: value for key, value in found.items() if key != "machine"}
            if name == "tests" and "end" in found:  # tracebacks name that machine's folders
                figures[name]["end"] = [line for line in found["end"] if line.startswith(_SUMMARY)]
    machine = {key: value for key, value in first["machines"][0].items() if key != "jaxtyping missing"}
    made = {
        "name": "gpu_first",
        "command": command,
        "measured": first["measured"],
        "environment": {**machine, "commit": first["commit"]},
        "figures": figures,
    }
    if rows := compared(figures):
        made["expected"] = rows
    return made


def _hardware(content: dict[str, Any]) -> list[Any]:
    return [machine["hardware"] for machine in content["machines"]]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--part", choices=("measure", "row"), default="measure")
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--command", required=True, help="what was called on the GPU machine")
    options = parser.parse_args()
    try:
        made = result(
            [json.loads(path.read_text("utf-8")) for path in options.files], options.part, options.command
        )
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    options.results.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(options.results, (json.dumps(made, indent=1) + "\n").encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
