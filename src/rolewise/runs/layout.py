"""The layout of a run directory: every name of a file, a folder or a stage in it is defined here and nowhere else.

`docs/run-directory.md` describes the files.
"""

from rolewise._roles import ROLES, SCHEDULES

CONFIG = "config.json"
METRICS = "metrics.jsonl"
LINEAGE = "lineage.jsonl"
LOGS = (METRICS, LINEAGE)
STAGES = "stages.json"
RESULTS = "results.json"
INFERENCE = "inference.json"  # size and speed of the student on the machine that measured them
INPUTS = "inputs.json"
KD = "kd.safetensors"
CHECKPOINTS = "checkpoints"
LOCK = "lock"
REPORT = "report.html"
CODE = "code"  # own code that the run used: copies, and what is known of each
OWN_CODE = f"{CODE}/own.json"
_BASELINES = "baselines"
_TESTS = "tests"
_INPUTS = "inputs"

TRAIN = "train"  # the stage of a single `rolewise.train`
PREPARE = "prepare-kd"
_SEARCHES, _TRAININGS = "search-", "train-"
_AVERAGED = "-averaged"


def search_stage(role: str) -> str:
    """The stage in which the schedule of `role` is searched."""
    return f"{_SEARCHES}{role}"


def train_stage(key: str) -> str:
    """The stage of the final training `key`, such as "student" or "student-kd"."""
    return f"{_TRAININGS}{key}"


def trained_in(stage: str) -> str | None:
    """The key of the final training whose stage this is; None for any other stage."""
    return stage.removeprefix(_TRAININGS) if stage.startswith(_TRAININGS) else None


def schedule_file(role: str) -> str:
    """The file of the schedule that was searched for `role`."""
    return f"{SCHEDULES[role]}.json"


def is_own(name: str) -> bool:
    """Whether a run directory keeps something of its own under this name, relative to it with `/`."""
    if name in (CONFIG, *LOGS, STAGES, RESULTS, INFERENCE, INPUTS, KD, LOCK, *map(schedule_file, ROLES)):
        return True
    folders = (CHECKPOINTS, CODE, _BASELINES, _TESTS, _INPUTS, *map(search_logs, ROLES))
    return any(name == folder or name.startswith(f"{folder}/") for folder in folders)


def search_logs(role: str) -> str:
    """The folder of the search's logs in the form of other tools."""
    return f"pbt-{role}"


def input_folder(setting: str) -> str:
    """The folder of the copy of the file that a setting names."""
    return f"{_INPUTS}/{setting}"


def test_file(key: str) -> str:
    """The file of the logits of the network `key` for every test image; see `averaged_key` for averaged weights."""
    return f"{_TESTS}/{key}.safetensors"


def averaged_key(key: str) -> str:
    """The name of the network with the averaged weights of the final training `key`."""
    return f"{key}{_AVERAGED}"


def averaged_in(name: str) -> str | None:
    """The key of the final training whose averaged weights are named so; None for any other name."""
    return name.removesuffix(_AVERAGED) if name.endswith(_AVERAGED) else None


def averaged_file(key: str, *, baseline: bool = False) -> str:
    """The file of the network with the averaged weights, next to the one with the last weights."""
    return network_file(averaged_key(key), baseline=baseline)


def network_file(key: str, *, baseline: bool = False) -> str:
    """The file of the network that the final training `key` gave."""
    return f"{_BASELINES}/{key}.safetensors" if baseline else f"{key}.safetensors"
