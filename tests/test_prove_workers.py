"""The processes that prove claims answer all of them, and end after errors and on Ctrl-C."""

import dataclasses
import functools
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

pytest.importorskip("sympy", reason="the proofs need SymPy: pip install xent-jax[proofs]")
pytest.importorskip("rich", reason="the command needs rich: pip install xent-jax[proofs]")

from xent_jax.proofs import _catalogue  # noqa: E402
from xent_jax.proofs.__main__ import main  # noqa: E402
from xent_jax.proofs._workers import Died, _uninterrupted, answers, usual_jobs  # noqa: E402

pytestmark = pytest.mark.fast_compile


@pytest.mark.slow
def test_both_processes_are_at_work_at_once():
    claims, seen = _catalogue.claims()[:6], []
    answered = dict(answers(claims, 2, lambda running: seen.append([c.name for c in running])))
    assert sorted(answered) == list(range(6)) and all(a.holds for a in answered.values())
    assert seen[0] == [claims[0].name, claims[1].name]
    assert multiprocessing.active_children() == []


def test_a_process_that_dies_is_an_error():
    coming = answers(_catalogue.claims()[:20], 2, lambda running: None)
    next(coming)
    for child in multiprocessing.active_children():
        child.kill()
    with pytest.raises(Died, match=r"the process that ran '\w+' ended with the exit code -9"):
        list(coming)
    assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_a_claim_that_raises_in_its_process_is_an_error(monkeypatch, capsys):
    claims = [dataclasses.replace(c, name=f"no {c.name}") for c in _catalogue.claims()[:2]]
    monkeypatch.setattr("xent_jax.proofs._command.claims", lambda: claims)
    assert main(["--jobs", "2"]) == 1
    captured = capsys.readouterr()
    assert "all hold" not in captured.out
    assert captured.err.startswith("xent-prove: the process that ran 'no seed_")


@pytest.mark.parametrize(
    "module, name",
    [
        ("xent_jax.proofs", "xent-prove"),
        pytest.param("tests.mutation", "python -m tests.mutation", marks=pytest.mark.slow),
    ],
)
def test_ctrl_c_ends_all_processes_at_once(module, name):
    command = [sys.executable, "-m", module, "--jobs", "2"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    pipes["cwd"] = Path(__file__).parents[1]  # the folder of the package ``tests``
    # Tests that run in the background ignore Ctrl-C; the process must not inherit that.
    heeds = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    run = subprocess.Popen(command, start_new_session=True, preexec_fn=heeds, **pipes)
    try:
        _interrupted(run, name)
    finally:
        if group_exists(run.pid):
            os.killpg(run.pid, signal.SIGKILL)


def _interrupted(run, name):
    def started():  # the workers and multiprocessing's resource tracker
        return run.poll() is not None or len(psutil.Process(run.pid).children()) >= 3

    within(60, started)
    assert run.poll() is None, f"it ended by itself: {run.communicate()}"
    os.killpg(run.pid, signal.SIGINT)
    out, err = run.communicate(timeout=10)
    assert err == f"{name}: interrupted\n", err
    assert run.returncode == 130 and out.strip() == ""
    within(10, lambda: not group_exists(run.pid))


@pytest.mark.parametrize("to", ["this thread", "the process"])
def test_ctrl_c_is_delayed_while_processes_start(to):
    """A signal to the process may be delivered to a thread that does not block it."""
    passed, ended = [], threading.Event()
    other = threading.Thread(target=ended.wait)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    other.start()
    try:
        with pytest.raises(KeyboardInterrupt), _uninterrupted():
            if to == "this thread":
                signal.raise_signal(signal.SIGINT)
            else:
                os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)
            passed.append("the signal")
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
        ended.set()
        other.join()
    assert passed == ["the signal"]
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def within(seconds, condition):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def group_exists(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(
    "cores, count, jobs", [(2, 240, 2), (64, 240, 12), (2, 39, 1), (1, 240, 1)]
)
def test_the_usual_number_of_processes(cores, count, jobs, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert usual_jobs(count) == jobs
