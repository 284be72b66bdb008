"""Claims: one holder at a time, free again when it is dead."""

import errno
import json
import multiprocessing
import os
import subprocess
import sys
import time

from rolewise.experiments.work_claims import Claims


def test_one_holder_at_a_time(tmp_path):
    one, other = Claims(tmp_path), Claims(tmp_path)
    with one.hold("seed0/a") as mine:
        assert mine
        assert one.holder("seed0/a") == f"process {os.getpid()} on {one.host}"
        with other.hold("seed0/a") as second, other.hold("seed0/b") as third:
            assert not second
            assert third
        assert one.holder("seed0/a") is not None
    assert one.holder("seed0/a") is None


def leave_a_claim(folder, changes):
    """A claim as another worker left it."""
    record = {"pid": os.getpid(), "host": Claims(folder).host, "started": None} | changes
    (folder / "a.json").write_text(json.dumps(record))


def test_a_dead_process_of_this_host_is_taken_over_at_once(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    leave_a_claim(tmp_path, {"pid": child.pid})
    with Claims(tmp_path).hold("a") as mine:
        assert mine


def test_a_number_that_was_given_again_is_not_the_old_process(tmp_path):
    leave_a_claim(tmp_path, {"started": "1"})  # this very process, but begun at another time
    with Claims(tmp_path).hold("a") as mine:
        assert mine


def test_another_host_is_dead_when_it_stops_renewing(tmp_path):
    claims = Claims(tmp_path, gone=60)
    leave_a_claim(tmp_path, {"host": "elsewhere"})
    with claims.hold("a") as mine:
        assert not mine
    os.utime(tmp_path / "a.json", (time.time() - 100,) * 2)
    with claims.hold("a") as mine:
        assert mine


def test_a_held_claim_is_renewed(tmp_path):
    claims = Claims(tmp_path, beat=0.02)
    with claims.hold("a"):
        os.utime(tmp_path / "a.json", (0, 0))
        until = time.monotonic() + 20
        while (tmp_path / "a.json").stat().st_mtime == 0:
            assert time.monotonic() < until, "the claim was never renewed"
            time.sleep(0.01)


def test_a_file_that_is_no_claim_does_not_block_for_ever(tmp_path):
    (tmp_path / "a.json").write_text("{")
    os.utime(tmp_path / "a.json", (0, 0))
    with Claims(tmp_path).hold("a") as mine:
        assert mine


def test_a_young_file_that_is_no_claim_counts_as_held(tmp_path):
    (tmp_path / "a.json").write_text("{")
    claims = Claims(tmp_path)
    assert claims.holder("a") == "process unknown on an unknown host"
    with claims.hold("a") as mine:
        assert not mine


def test_a_renewal_that_fails_once_is_followed_by_another(tmp_path, monkeypatch):
    renew, failed = os.utime, []

    def utime(path, *given):
        if not failed:
            failed.append(path)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        renew(path, *given)

    until = time.monotonic() + 20
    with Claims(tmp_path, beat=0.02).hold("a"):
        monkeypatch.setattr(os, "utime", utime)
        while not failed:
            assert time.monotonic() < until, "the claim was never renewed"
            time.sleep(0.01)
        renew(tmp_path / "a.json", (0, 0))
        while (tmp_path / "a.json").stat().st_mtime == 0:
            assert time.monotonic() < until, "the claim was not renewed after a failure"
            time.sleep(0.01)


def _take(folder, all_here, answers, all_asked):
    all_here.wait()
    with Claims(folder).hold("a") as mine:
        answers.put(mine)
        all_asked.wait()


def test_of_several_processes_exactly_one_gets_it(tmp_path):
    context = multiprocessing.get_context("spawn")
    all_here, answers, all_asked = context.Barrier(3), context.Queue(), context.Event()
    arguments = (tmp_path, all_here, answers, all_asked)
    children = [context.Process(target=_take, args=arguments, daemon=True) for _ in range(3)]
    for child in children:
        child.start()
    took = [answers.get(timeout=120) for _ in children]
    all_asked.set()
    for child in children:
        child.join()
    assert sum(took) == 1
