"""Losses whose classes are sharded over processes have the numbers of one device.

The processes run ``tests/process.py`` and communicate over loopback.
"""

import collections
import contextlib
import functools
import inspect
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from tests import conftest, process

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.fast_compile

meshes = pytest.mark.parametrize("data", process.DATA_SHARDS)
cases = pytest.mark.parametrize("name", process.CASES)

# ------------------------------------------------------------------------- starting and ending


@contextlib.contextmanager
def started(count, folder, *arguments):
    """Starts ``count`` processes for the context, and kills what is left of them at its end."""
    # Through a proxy the processes could not reach each other.
    environment = {k: v for k, v in os.environ.items() if "_proxy" not in k.lower()}
    environment |= {"JAX_PLATFORMS": "cpu"} | conftest.fast_compile_flags()
    running = []
    # No other program is given the port while this socket holds it; the coordinator shares it.
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        try:
            for index in range(count):
                command = [sys.executable, "-m", "tests.process", port, count, index, *arguments]
                with (folder / f"log{index}").open("w") as log:
                    one = subprocess.Popen(
                        list(map(str, command)),
                        cwd=ROOT,
                        env=environment,
                        stdout=log,
                        stderr=log,
                        start_new_session=True,  # a group of its own, to end it with its children
                    )
                running.append(one)
            yield running
        finally:
            for one in running:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(one.pid, signal.SIGKILL)
                one.wait()


def wait_until(condition, seconds):
    """Returns whether the condition became true within that many seconds."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def logs(folder):
    """Returns the end of each process's log."""
    return "\n".join(f"{f.name}: {f.read_text()[-3000:]}" for f in sorted(folder.glob("log*")))


# ------------------------------------------------------------------------------ the same result


@pytest.fixture(scope="module", params=[2, pytest.param(4, marks=pytest.mark.slow)])
def answers(request, tmp_path_factory):
    """Returns the results that each of the processes wrote."""
    count, folder = request.param, tmp_path_factory.mktemp("processes")
    with started(count, folder, "compute", folder) as running:

        def over():
            codes = [one.poll() for one in running]
            return None not in codes or any(codes)

        assert wait_until(over, 120) and not any(one.poll() for one in running), logs(folder)
    return [pickle.loads((folder / str(index)).read_bytes()) for index in range(count)]


@functools.cache
def on_one_device(name):
    """Returns the results of the case without a mesh, after a check of which rows are NaN."""
    case = process.CASES[name]
    out = jax.device_get(jax.jit(process.computation(case, None))(process.arguments(case)))
    for result, x in out.items():
        bad = np.isnan(x).reshape(np.shape(x)[:1] + (-1,))
        for rows in (bad.any(-1), bad.all(-1)):
            wanted = process.NAN_ROWS if case.edges else []
            assert np.flatnonzero(rows).tolist() == wanted, result
    return out


def assembled(answers, data, name, run=0):
    """Returns each result as one array, put together from the shards of all processes."""
    parts = [answer[data, name][run] for answer in answers]
    out = {}
    for result, (size, _) in parts[0].items():
        out[result] = np.full(size, 12345.0, np.float32)  # stays where a shard is missing
        for part in parts:
            for index, shard in part[result][1]:
                out[result][index] = shard
    return out


@meshes
@cases
def test_loss_and_gradients_are_those_of_one_device(answers, data, name):
    actual, expected = assembled(answers, data, name), on_one_device(name)
    assert actual.keys() == expected.keys()
    for result, x in expected.items():
        # The gradient to label_smoothing is a difference of two losses and errs as they do.
        largest = np.nanmax(np.abs(expected["loss"] if result == "label_smoothing" else x))
        relative, absolute = (1e-6, 0) if result == "loss" else (0, 1e-6 * largest)
        np.testing.assert_allclose(
            actual[result], x, relative, absolute, err_msg=result, strict=True
        )


@meshes
@cases
def test_a_second_run_is_equal_to_the_bit(answers, data, name):
    first, second = (assembled(answers, data, name, run) for run in range(2))
    assert {k: x.tobytes() for k, x in first.items()} == {k: x.tobytes() for k, x in second.items()}


@meshes
@cases
def test_all_copies_are_equal_to_the_bit(answers, data, name):
    copies = collections.defaultdict(set)
    for answer in answers:
        for result, (_, shards) in answer[data, name][0].items():
            for index, shard in shards:
                copies[result, str(index)].add(shard.tobytes())
    assert [key for key, different in copies.items() if len(different) > 1] == []


@meshes
def test_the_classes_are_divided_over_processes(answers, data):
    for answer in answers:
        rows = answer[data, "processes"]
        assert len(rows) == data
        assert all(len(set(row)) == len(row) > 1 for row in rows)


# ---------------------------------------------------------------------------- one that dies

# JAX ends all processes if one sends no heartbeat for some time or does not reach the common
# shutdown. tests/process.py sets this time to 5 s. Older versions of JAX always wait 100 s.
ASKED = "heartbeat_timeout_seconds" in inspect.signature(jax.distributed.initialize).parameters
BOUND = 60 if ASKED else 150  # s
waits = pytest.mark.skipif(not ASKED, reason="this JAX waits for minutes and cannot be asked")


def alive(one):
    """Returns whether the process, or any process that it started, still exists."""
    one.poll()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(one.pid, 0)
        return True
    return False


@pytest.mark.slow
@pytest.mark.parametrize(
    "count, ending, victim",
    [
        (2, "kill", 1),
        pytest.param(4, "kill", 2, marks=pytest.mark.slow),
        pytest.param(2, "kill", 0, id="2-kill-coordinator", marks=pytest.mark.slow),
        pytest.param(2, "fail", 1, marks=[waits, pytest.mark.slow]),
    ],
)
def test_one_that_dies_ends_the_others(tmp_path, count, ending, victim):
    with started(count, tmp_path, ending, victim) as running:
        log = tmp_path / f"log{victim}"
        assert wait_until(lambda: "ends here" in log.read_text(), 120), logs(tmp_path)
        assert wait_until(lambda: not any(map(alive, running)), BOUND), logs(tmp_path)
        codes = [one.returncode for one in running]
    assert 0 not in codes, logs(tmp_path)
    assert [code == -signal.SIGKILL for code in codes] == [
        ending == "kill" and index == victim for index in range(count)
    ]
