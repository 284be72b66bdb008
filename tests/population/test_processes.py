"""Worker processes: the result is that of one process, whatever happens to them."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
import torch
from fake_trainer import Script
from searches import Heard, fake_plan, run_fake, run_to_the_end, told

from rolewise.errors import InputError, Interrupted, RunError
from rolewise.population.engine import make_engine
from rolewise.population.processes import ProcessEngine
from rolewise.population.transport import SharedTensors, pack, unpack
from rolewise.trainer import State


def script_in(folder: Path, **changes) -> Script:
    (folder / "notes").mkdir(exist_ok=True)
    return Script(folder / "notes", **changes)


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """What one process gives."""
    folder = tmp_path_factory.mktemp("one")
    return told(run_fake(fake_plan(script_in(folder)), folder / "run"), folder / "run")


@pytest.mark.parametrize("workers", [2, 3])
def test_the_number_of_workers_does_not_show(one, tmp_path, workers):
    progress = Heard()
    result = run_fake(fake_plan(script_in(tmp_path)), tmp_path / "run", workers=workers, progress=progress)
    assert told(result, tmp_path / "run") == one
    assert progress.images == result.images
    assert result.restarts == 0


def test_a_worker_that_dies_is_replaced_and_its_task_done_again(one, tmp_path):
    script = script_in(tmp_path, crash=frozenset({(2, 4), (5, 9)}), crashes=2)
    progress = Heard()
    result = run_fake(fake_plan(script), tmp_path / "run", workers=2, progress=progress)
    assert told(result, tmp_path / "run") == one
    assert result.restarts == 4
    assert progress.notes.count("Worker died (exit status 7) while running member 2; retrying.") == 2


def test_a_task_that_kills_each_worker_ends_the_search_and_nothing_is_lost(one, tmp_path):
    always = script_in(tmp_path, crash=frozenset({(2, 4)}), crashes=1000)
    with pytest.raises(
        RunError, match=r"The worker of member 2 died 3 times \(exit status 7\).*`--resume`.*`workers`"
    ):
        run_fake(fake_plan(always), tmp_path / "run", workers=2, seconds=1e9)
    result = run_fake(fake_plan(script_in(tmp_path)), tmp_path / "run", workers=2)
    assert told(result, tmp_path / "run") == one
    # what was complete before the end was not done again
    notes = [path.name for path in (tmp_path / "notes").iterdir() if path.name.startswith("evaluation-0-")]
    assert len(notes) == 4


def test_a_worker_that_is_killed_from_outside(one, tmp_path):
    script = script_in(tmp_path, step_seconds=0.01)
    plan = fake_plan(script)
    killed = []

    def kill_one(engine):
        time.sleep(0.3)
        while not killed:
            for worker in list(engine._workers):
                if worker.job is not None:
                    os.kill(worker.process.pid, signal.SIGKILL)
                    killed.append(worker.process.pid)
                    break

    def watched(*arguments, **named):
        engine = make_engine(*arguments, **named)
        threading.Thread(target=kill_one, args=(engine,), daemon=True).start()
        return engine

    progress = Heard()
    result = run_fake(plan, tmp_path / "run", workers=2, start=watched, progress=progress)
    assert told(result, tmp_path / "run") == one
    assert result.restarts == 1
    assert any("killed by SIGKILL" in note for note in progress.notes)


def test_a_worker_that_hangs_is_taken_for_dead(one, tmp_path):
    script = script_in(tmp_path, hang=frozenset({(1, 4)}))
    progress = Heard()

    def impatient(spec, settings, *, workers, progress):
        return ProcessEngine(spec, 2, progress, patience=1.0)

    result = run_fake(fake_plan(script), tmp_path / "run", start=impatient, progress=progress)
    assert told(result, tmp_path / "run") == one
    assert any("without a heartbeat for 1 s" in note for note in progress.notes)


def test_a_stop_brings_back_all_members_within_a_batch(one, tmp_path):
    """Stopped in the middle of an interval, with members ahead of others, it continues from exactly there."""
    slow = script_in(tmp_path, step_seconds=0.02)
    begun = time.monotonic()

    def soon():
        return time.monotonic() - begun > 0.9

    progress = Heard()
    with pytest.raises(Interrupted):
        run_fake(fake_plan(slow), tmp_path / "run", workers=2, stop=soon, progress=progress)
    fast = script_in(tmp_path)
    result, times = run_to_the_end(fake_plan(fast), tmp_path / "run", [lambda: True], workers=2)
    assert times == 1
    assert told(result, tmp_path / "run") == one
    assert result.images == 8 * 12 * 3 * 4  # no batch was lost, none was done twice


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (ValueError("a strange image"), RunError, "ValueError: a strange image"),
        (InputError("`taps` must name a layer"), InputError, "^`taps` must name a layer"),
        (RunError("the teacher is gone"), RunError, "^the teacher is gone"),
    ],
)
@pytest.mark.parametrize("workers", [1, 2])
def test_what_a_job_raises_arrives(tmp_path, error, kind, words, workers):
    script = script_in(tmp_path, error=((3, 1), error))
    expected = type(error) if workers == 1 else kind
    with pytest.raises(expected, match=words if workers == 2 else str(error)) as caught:
        run_fake(fake_plan(script), workers=workers)
    if workers == 2:
        assert "_accidents" in caught.value.__notes__[0]  # where it happened


def test_workers_leave_signals_to_the_search_and_end_with_it(tmp_path):
    """A whole process group is told to stop, as by Ctrl-C or a batch system; then one is killed outright."""
    code = f"""
        import sys, time
        sys.path[:0] = {[str(Path(__file__).parent)]!r}
        from fake_trainer import Script
        from pathlib import Path
        from searches import fake_plan, run_fake, Heard
        from rolewise.errors import Interrupted
        from rolewise.runs import StopFlag
        class Loud(Heard):
            def batch(self, images):
                super().batch(images)
                print("batch", flush=True)
        plan = fake_plan(Script(Path({str(tmp_path / "notes")!r}), step_seconds=0.1))
        try:
            with StopFlag() as flag:
                run_fake(plan, Path({str(tmp_path / "run")!r}), workers=2, stop=flag, progress=Loud())
        except Interrupted:
            sys.exit(75)
    """
    (tmp_path / "notes").mkdir()
    statuses = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code)],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert process.stdout.readline() == "batch\n"
        workers = children_named(process.pid)
        assert len(workers) >= 2
        if number == signal.SIGKILL:
            process.kill()
        else:
            os.killpg(process.pid, number)
        statuses.append(process.wait(30))
        process.stdout.close()
        wait_until_gone(workers)
    assert statuses == [75, 75, -9]
    script = Script(tmp_path / "notes")
    result = run_fake(fake_plan(script), tmp_path / "run", workers=1)
    (tmp_path / "fresh").mkdir()
    fresh = run_fake(fake_plan(script_in(tmp_path / "fresh")), tmp_path / "fresh" / "run")
    assert told(result, tmp_path / "run") == told(fresh, tmp_path / "fresh" / "run")


def children_named(group: int) -> list[int]:
    """The processes of a session."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != group:
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(fields[3]) == group:
                found.append(int(entry.name))
    return found


def wait_until_gone(pids: list[int], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    left = set(pids)
    while left and time.monotonic() < end:
        time.sleep(0.05)
        left = {pid for pid in left if alive(pid)}
    assert not left, "workers outlived their search"


def alive(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


MAIN = """
    import sys
    sys.path[:0] = {paths!r}
    from functools import partial
    from pathlib import Path
    import fake_trainer as fake
    from rolewise.population import make_plan
    from rolewise.population.engine import make_engine
    from rolewise.settings.search import SearchSettings
    {network}
    {guard}
    plan = make_plan(
        Small(), fake.small_data(), SearchSettings(4, 2, 1), changes={{"batch_size": 4}},
        trainer=partial(fake.FakeTrainer, script=fake.Script(Path({notes!r}))),
    )
    with make_engine(plan.spec, plan.settings, workers=2) as engine:
        result = plan.run(engine)
    print(len(result.schedule))
"""


@pytest.mark.parametrize(
    ("network", "guard", "succeeds"),
    [
        ("from fake_trainer import Small", "", True),  # no class of the script is needed: it needs no guard
        ("class Small(fake.Small): pass", "if __name__ == '__main__':", True),
        ("class Small(fake.Small): pass", "", False),
    ],
)
def test_scripts_that_search(tmp_path, network, guard, succeeds):
    (tmp_path / "notes").mkdir()
    about = {"paths": [str(Path(__file__).parent)], "notes": str(tmp_path / "notes")}
    text = textwrap.dedent(MAIN).format(network=network, guard=guard, **about)
    if guard:
        head, tail = text.split(guard + "\n")
        text = head + guard + "\n" + textwrap.indent(tail, "    ")
    path = tmp_path / "script.py"
    path.write_text(text)
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=120)
    if succeeds:
        assert done.stdout == "2\n", done.stderr
    else:
        assert done.returncode == 1
        assert 'put the call under `if __name__ == "__main__":`' in done.stderr.splitlines()[-1]


def test_a_notebook_is_told_the_way_out(tmp_path):
    """`python -c` has a main module without a file, as a notebook has."""
    (tmp_path / "notes").mkdir()
    about = {"paths": [str(Path(__file__).parent)], "notes": str(tmp_path / "notes"), "guard": ""}
    for network, succeeds in (
        ("from fake_trainer import Small", True),
        ("class Small(fake.Small): pass", False),
    ):
        text = textwrap.dedent(MAIN).format(network=network, **about)
        done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=120)
        if succeeds:
            assert done.stdout == "2\n", done.stderr
        else:
            said = done.stderr.splitlines()[-1]
            assert "InputError: The search needs a class or function of this notebook" in said
            assert "or search with workers=1" in said


# What travels.


def test_states_travel_as_they_are():
    state = State({"model.a": torch.randn(3, 4), "b": torch.arange(5)}, {"epoch": 3, "step": 1})
    back = unpack(pack({"deep": [state]}))["deep"][0]
    assert back.info == state.info
    assert set(back.tensors) == set(state.tensors)
    for name, tensor in state.tensors.items():
        assert torch.equal(back.tensors[name], tensor)
        assert back.tensors[name].dtype == tensor.dtype


def test_shared_tensors_are_not_packed():
    large, small = torch.zeros(1_000_000), torch.ones(3)
    data = pack((large, small), [large])
    assert len(data) < 10_000
    first, second = unpack(data, [large])
    assert first is large
    assert torch.equal(second, small)


def test_shared_memory_holds_the_tensors():
    tensors = [torch.randint(0, 256, (5, 3, 3, 3), dtype=torch.uint8), torch.arange(7), torch.zeros(0, 2)]
    shared = SharedTensors(tensors)
    for tensor, view in zip(tensors, shared.tensors(), strict=True):
        assert torch.equal(tensor, view)
        assert tensor.dtype == view.dtype
    shared.close()
    shared.close()
