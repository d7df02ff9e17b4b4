"""Tasks shared out among processes, each with a JAX of its own."""

from __future__ import annotations

import dataclasses
import gc
import multiprocessing
import os
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any

from ._catalogue import Answer, Claim, Engine, claims
from ._derivations.derivation import Derivation, Outcome

Report = Callable[[list[Claim]], None]
Prepare = Callable[[], Callable[[Any], Any]]
Coming = Generator[tuple[int, Any], None, None]
_CLAIMS_PER_PROCESS = 20  # fewer take less time than a process takes to start


class Died(Exception):
    """A process ended without its answer, so that nothing is known of its task."""


@dataclasses.dataclass
class Task:
    """What one process is asked for at a time; ``value`` is sent to it, pickled."""

    name: str
    value: Any


# ---------------------------------------------------------------- claims


def usual_jobs(count: int) -> int:
    """How many processes are worth their start for so many claims."""
    return max(1, min(os.cpu_count() or 1, count // _CLAIMS_PER_PROCESS))


def answers(chosen: Sequence[Claim], jobs: int, report: Report) -> Coming:
    """Each claim's place and answer, as they come; ``report`` is told which claims run."""
    if jobs > 1:
        tasks = [Task(c.name, (c.engine, c.name)) for c in chosen]

        def running(places: list[int]) -> None:
            report([chosen[place] for place in places])

        for place, answer in shared_out(tasks, jobs, _claims_by_name, running):
            yield place, _unpacked(chosen[place], answer)
        return
    with _uncollected():
        for place, claim in enumerate(chosen):
            report([claim])
            yield place, claim.run()


def _claims_by_name() -> Callable[[tuple[Engine, str]], Answer]:
    """The function that runs a claim, given its engine and name, in a process of its own."""
    gc.disable()
    known = {(c.engine, c.name): c for c in claims(independent=True)}
    return lambda key: _packed(known[key].run())


def _packed(answer: Answer) -> Answer:
    """Without the steps of a derivation, whose indices must stay the objects they are."""
    if isinstance(answer.detail, tuple):
        return dataclasses.replace(answer, detail=[(o.reason, o.seconds) for o in answer.detail])
    return answer


def _unpacked(claim: Claim, answer: Answer) -> Answer:
    if not isinstance(claim.subject, Derivation):
        return answer
    steps = zip(claim.subject.steps, answer.detail, strict=True)
    return dataclasses.replace(answer, detail=tuple(Outcome(s, *rest) for s, rest in steps))


@contextmanager
def _uncollected() -> Iterator[None]:
    """Turns the garbage collector off.

    Proofs keep nearly all terms they make, and searches for garbage among them take a third of
    the time. And JAX listens to such searches: a Ctrl-C that comes meanwhile would be lost.
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
    """A process, and the place of the task that it runs."""

    process: Any
    line: Connection
    place: int = -1


def shared_out(
    tasks: Sequence[Task],
    jobs: int,
    prepare: Prepare,
    report: Callable[[list[int]], None] = lambda places: None,
) -> Coming:
    """Yields each task's place and answer, as they come.

    Args:
        tasks: what is to be done.
        jobs: how many processes to start, at most one for each task.
        prepare: a function of a module. Each process calls it once, for the function that takes
            the ``value`` of a task and returns the answer.
        report: is told the places of the tasks that run.
    """
    todo = iter(range(len(tasks)))
    with _uncollected():
        with _uninterrupted():
            workers = [_started(prepare) for _ in range(min(jobs, len(tasks)))]
        busy: dict[Any, _Worker] = {w.line: w for w in workers}
        try:
            for worker in workers:
                _give(worker, next(todo), tasks)
            while busy:
                report([w.place for w in busy.values()])
                for line in wait(list(busy)):
                    worker = busy[line]
                    place, answer = worker.place, _received(worker, tasks)
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
    """A process that is started inside never hears Ctrl-C; this one does, at the latest then."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # its start would unblock the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _started(prepare: Prepare) -> _Worker:
    context = multiprocessing.get_context("spawn")  # JAX's threads do not survive a fork
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, prepare), daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _give(worker: _Worker, place: int, tasks: Sequence[Task]) -> None:
    worker.place = place
    try:
        worker.line.send(tasks[place].value)
    except OSError:
        raise _death(worker, tasks) from None


def _received(worker: _Worker, tasks: Sequence[Task]) -> Any:
    try:
        return worker.line.recv()
    except (EOFError, OSError):
        raise _death(worker, tasks) from None


def _death(worker: _Worker, tasks: Sequence[Task]) -> Died:
    worker.process.join()
    name, code = tasks[worker.place].name, worker.process.exitcode
    return Died(f"the process that ran {name!r} ended with the exit code {code}: no answer")


# ---------------------------------------------------------------- the process that answers


def _serve(line: Connection, prepare: Prepare) -> None:
    """Answers until nobody asks."""
    answer = prepare()
    while True:
        try:
            value = line.recv()
        except EOFError:
            return
        line.send(answer(value))
