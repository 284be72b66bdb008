"""The Ray engine on a cluster of several nodes on this machine: actors and nodes die, the result stays."""

import os
import sys
import threading
import time
from pathlib import Path

import pytest
from fake_trainer import Script
from searches import Heard, fake_plan, run_fake, told

from rolewise.errors import InputError, Interrupted, MissingExtraError
from rolewise.population.engine import make_engine
from rolewise.settings.search import SearchSettings

pytestmark = [
    pytest.mark.ray,
    # Ray leaves sockets and processes to the end of the interpreter, and uses what its dependencies have
    # deprecated.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
]


def script_in(folder: Path, **changes) -> Script:
    (folder / "notes").mkdir(exist_ok=True)
    return Script(folder / "notes", **changes)


@pytest.fixture(scope="module")
def cluster():
    """Two nodes of one CPU each; the second one can be removed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        paths = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))  # actors must find the fake trainer
        from ray.cluster_utils import Cluster

        found = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        found.second = found.add_node(num_cpus=1)
        yield found
        found.shutdown()


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """What one process gives."""
    folder = tmp_path_factory.mktemp("one")
    return told(run_fake(fake_plan(script_in(folder)), folder / "run"), folder / "run")


def test_an_actor_dies_and_the_result_is_that_of_the_local_engine(cluster, one, tmp_path):
    script = script_in(tmp_path, crash=frozenset({(2, 4)}))
    progress = Heard()
    plan = fake_plan(script, engine="ray", ray_address=cluster.address)
    result = run_fake(plan, tmp_path / "run", workers=None, progress=progress)
    assert told(result, tmp_path / "run") == one
    assert result.restarts == 1
    assert any("Ray actor died (ActorDiedError) while running member 2" in note for note in progress.notes)
    assert progress.images == result.images


def test_a_stop_brings_back_all_members_and_the_local_engine_goes_on(cluster, one, tmp_path):
    progress, begun = Heard(), []

    def soon():
        begun.append(time.monotonic())
        return progress.rounds != [] and time.monotonic() - begun[0] > 1

    slow = script_in(tmp_path, step_seconds=0.05)
    plan = fake_plan(slow, engine="ray", ray_address=cluster.address)
    with pytest.raises(Interrupted):
        run_fake(plan, tmp_path / "run", workers=None, stop=soon, progress=progress)
    result = run_fake(fake_plan(script_in(tmp_path)), tmp_path / "run")
    assert told(result, tmp_path / "run") == one
    assert result.images == 8 * 12 * 3 * 4


def test_no_room_for_a_member_is_said_at_once(cluster):
    plan = fake_plan(Script(Path()), engine="ray", ray_address=cluster.address, gpus_per_member=0.5)
    with pytest.raises(
        InputError, match="No node of the Ray cluster has room for one member, which needs 0.5 GPUs"
    ):
        make_engine(plan.spec, plan.settings)


def test_a_node_dies_in_the_middle_and_the_result_stays(cluster, one, tmp_path):
    script = script_in(tmp_path, step_seconds=0.03)
    progress = Heard()

    def remove():
        while not progress.rounds:
            time.sleep(0.05)
        time.sleep(0.3)  # in the second interval
        cluster.remove_node(cluster.second, allow_graceful=False)

    thread = threading.Thread(target=remove)
    thread.start()
    plan = fake_plan(script, engine="ray", ray_address=cluster.address)
    result = run_fake(plan, tmp_path / "run", workers=None, progress=progress)
    thread.join()
    assert told(result, tmp_path / "run") == one
    assert result.restarts == 1
    assert any("Ray actor died" in note for note in progress.notes)


def test_without_ray_the_message_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        MissingExtraError,
        match=r"The Ray engine needs Ray, which is not installed: pip install .*\[ray\]",
    ):
        make_engine(fake_plan(Script(Path())).spec, SearchSettings(engine="ray"))


@pytest.mark.parametrize("address", ["127.0.0.1:1", "no address", "ray://127.0.0.1:1"])
def test_a_cluster_that_is_not_there_is_said_soon(address):
    begun = time.monotonic()
    with pytest.raises(InputError, match=f'Cannot reach a Ray cluster at "{address}".*Check `ray_address`'):
        make_engine(fake_plan(Script(Path())).spec, SearchSettings(engine="ray", ray_address=address))
    assert time.monotonic() - begun < 30


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ray_address": "auto"}, "`ray_address`: belongs to the Ray engine"),
        ({"gpus_per_member": 0.5}, "`gpus_per_member`: belongs to the Ray engine"),
        ({"engine": "rey"}, "`engine` must be 'local' or 'ray', got 'rey'"),
        (
            {"engine": "ray", "gpus_per_member": -1},
            "`gpus_per_member` must be greater than or equal to 0",
        ),
    ],
)
def test_options_of_the_other_engine_are_refused(options, words):
    with pytest.raises(InputError, match=words):
        SearchSettings(**options)


def test_workers_must_be_a_number():
    with pytest.raises(InputError, match="`workers` must be an integer at least 1, got 0"):
        make_engine(fake_plan(Script(Path())).spec, SearchSettings(), workers=0)
