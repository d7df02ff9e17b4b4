"""Distributes tasks over processes, each of which imports JAX itself."""

from __future__ import annotations

import dataclasses
import gc
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any

from ._catalogue import Answer, Claim, claims

Report = Callable[[list[Claim]], None]
Prepare = Callable[[], Callable[[Any], Any]]
Coming = Generator[tuple[int, Any], None, None]
_CLAIMS_PER_PROCESS = 20  # fewer take less time than a process takes to start


class Died(Exception):
    """Raised if a process ended without an answer, so that the result of its task is unknown."""


@dataclasses.dataclass
class Task:
    """One task for a process; ``value`` is pickled and sent to it."""

    name: str
    value: Any


# ---------------------------------------------------------------- claims


def usual_jobs(count: int) -> int:
    """Returns how many processes to start for ``count`` claims; starting one takes time."""
    return max(1, min(os.cpu_count() or 1, count // _CLAIMS_PER_PROCESS))


def answers(chosen: Sequence[Claim], jobs: int, report: Report) -> Coming:
    """Yields each claim's index and answer as it arrives; reports which claims are running."""
    if jobs > 1:
        tasks = [Task(c.name, c.name) for c in chosen]
        yield from shared_out(
            tasks, jobs, _claims_by_name, lambda places: report([chosen[i] for i in places])
        )
        return
    with _uncollected():
        for place, claim in enumerate(chosen):
            report([claim])
            yield place, claim.run()


def _claims_by_name() -> Callable[[str], Answer]:
    """Returns the function that runs a claim in a process, given its name."""
    gc.disable()
    known = {c.name: c for c in claims()}
    return lambda name: known[name].run()


@contextmanager
def _uncollected() -> Iterator[None]:
    """Turns the garbage collector off inside the context.

    A proof keeps nearly all terms that it makes until it ends, and collecting garbage among them
    would take a third of the time. Also, JAX has a callback on garbage collections, and a Ctrl-C
    during that callback would be lost.
    """
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


# ---------------------------------------------------------------- the process that asks


@dataclasses.dataclass
class _Worker:
    """A process, and the index of the task that it runs."""

    process: Any
    line: Connection
    place: int = -1


def shared_out(
    tasks: Sequence[Task],
    jobs: int,
    prepare: Prepare,
    report: Callable[[list[int]], None] = lambda places: None,
) -> Coming:
    """Yields each task's index and answer as they arrive.

    Args:
        tasks: the tasks.
        jobs: how many processes to start, at most one for each task.
        prepare: a function at module level. Each process calls it once. It returns the function
            that maps the ``value`` of a task to its answer.
        report: called with the indices of the tasks that run.
    """
    todo = iter(range(len(tasks)))
    workers: list[_Worker] = []
    with _uncollected():
        try:
            with _uninterrupted():
                for _ in range(min(jobs, len(tasks))):
                    workers.append(_started(prepare))
            busy: dict[Any, _Worker] = {w.line: w for w in workers}
            for worker in workers:
                _give(worker, next(todo), tasks)
            while busy:
                report([w.place for w in busy.values()])
                for line in wait(list(busy)):
                    worker = busy[line]
                    with _alive(worker, tasks):
                        place, answer = worker.place, worker.line.recv()
                    following = next(todo, None)
                    if following is None:
                        del busy[line]
                    else:
                        _give(worker, following, tasks)
                    yield place, answer
        finally:
            for worker in workers:
                worker.process.kill()
                worker.process.join()


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Blocks Ctrl-C for processes started inside, and delays it for this process until the end.

    Processes inherit the mask of the thread that starts them. The mask does not delay the signal
    for this process, because another thread, such as one of JAX's, may take it, and Python would
    then run the handler in the main thread. A handler that only notes the signal delays it.
    """
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or not hasattr(signal, "pthread_sigmask"):  # Windows has no masks
        yield
        return
    resource_tracker.ensure_running()  # if it started later, it would unblock the signal
    noted: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, frame: noted.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, handler)
        if noted:
            signal.raise_signal(signal.SIGINT)


def _started(prepare: Prepare) -> _Worker:
    context = multiprocessing.get_context("spawn")  # JAX's threads do not survive a fork
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, prepare), daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _give(worker: _Worker, place: int, tasks: Sequence[Task]) -> None:
    worker.place = place
    with _alive(worker, tasks):
        worker.line.send(tasks[place].value)


@contextmanager
def _alive(worker: _Worker, tasks: Sequence[Task]) -> Iterator[None]:
    """Raises ``Died`` if code in the context uses the pipe of a process that has ended."""
    try:
        yield
    except (EOFError, OSError):
        worker.process.join()
        name, code = tasks[worker.place].name, worker.process.exitcode
        why = f"the process that ran {name!r} ended with the exit code {code}: no answer"
        raise Died(why) from None


# ---------------------------------------------------------------- the process that answers


def _serve(line: Connection, prepare: Prepare) -> None:
    """Answers tasks until the other end of the pipe is closed."""
    answer = prepare()
    while True:
        try:
            value = line.recv()
        except EOFError:
            return
        line.send(answer(value))
