"""Claims shared out among processes, each with a JAX of its own."""

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

from ._catalogue import Answer, Claim, claims
from ._derivations.derivation import Derivation, Outcome

Report = Callable[[list[Claim]], None]
Coming = Generator[tuple[int, Answer], None, None]
_CLAIMS_PER_PROCESS = 20  # fewer take less time than a process takes to start


class Died(Exception):
    """A process ended without its answer, so that nothing is known of its claim."""


def usual_jobs(count: int) -> int:
    """How many processes are worth their start for so many claims."""
    return max(1, min(os.cpu_count() or 1, count // _CLAIMS_PER_PROCESS))


def answers(chosen: Sequence[Claim], jobs: int, report: Report) -> Coming:
    """Each claim's place and answer, as they come; ``report`` is told which claims run."""
    with _uncollected():
        if jobs > 1:
            yield from _shared_out(chosen, min(jobs, len(chosen)), report)
            return
        for place, claim in enumerate(chosen):
            report([claim])
            yield place, claim.run()


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without searches for garbage: among terms that are all kept, a third of the time.

    And a Ctrl-C that comes while JAX listens to such a search would be lost.
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
    """A process, and the place of the claim that it runs."""

    process: Any
    line: Connection
    place: int = -1


def _shared_out(chosen: Sequence[Claim], jobs: int, report: Report) -> Coming:
    todo = iter(range(len(chosen)))
    with _uninterrupted():
        workers = [_started() for _ in range(jobs)]
    busy = {w.line: w for w in workers}
    try:
        for worker in workers:
            _give(worker, next(todo), chosen)
        while busy:
            report([chosen[w.place] for w in busy.values()])
            for line in wait(list(busy)):
                worker = busy[line]  # type: ignore[index]
                place, answer = worker.place, _received(worker, chosen)
                following = next(todo, None)
                if following is None:
                    del busy[worker.line]
                else:
                    _give(worker, following, chosen)
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


def _started() -> _Worker:
    context = multiprocessing.get_context("spawn")  # JAX's threads do not survive a fork
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _give(worker: _Worker, place: int, chosen: Sequence[Claim]) -> None:
    worker.place = place
    try:
        worker.line.send(_key(chosen[place]))
    except OSError:
        raise _death(worker, chosen) from None


def _received(worker: _Worker, chosen: Sequence[Claim]) -> Answer:
    try:
        answer = worker.line.recv()
    except (EOFError, OSError):
        raise _death(worker, chosen) from None
    return _unpacked(chosen[worker.place], answer)


def _death(worker: _Worker, chosen: Sequence[Claim]) -> Died:
    worker.process.join()
    name, code = chosen[worker.place].name, worker.process.exitcode
    return Died(f"the process that ran {name!r} ended with the exit code {code}: no answer")


# ---------------------------------------------------------------- the process that answers


def _serve(line: Connection) -> None:
    """Answers until nobody asks."""
    known = {_key(c): c for c in claims(independent=True)}
    with _uncollected():
        while True:
            try:
                claim = known[line.recv()]
            except EOFError:
                return
            line.send(_packed(claim.run()))


def _key(claim: Claim) -> tuple[str, str]:
    return claim.engine, claim.name


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
