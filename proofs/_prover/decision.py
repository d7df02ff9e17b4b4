"""Decides a claim: chooses the sizes, tries several ways to prove it, and limits the time."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from .._jax_internals import Question, doubt, lines_of_backwards, questions, untested
from .._normal_form import (
    Exceeded,
    Kinked,
    Refused,
    almost_everywhere,
    forget,
    forgotten,
    forgotten_if,
    limited,
)
from .._normal_form.state import during
from .claims import Claims, Differs, require
from .layers import by_layers
from .read import assume, assumed, least_sizes, wanted_sizes
from .sizes import Sizes, Waiting
from .spec import Spec
from .sympy import to_sympy
from .trace import Arguments, arguments, note
from .verdict import OFF_KINKS, Verdict
from .words import few_terms, left_over, refusal

TIMEOUT = 120.0
"""The default of the prover's option ``timeout``, in seconds."""
_SEARCH = 10.0
_SHORT = 15.0
_WRONG_RULE = "it seemed proved: one of the prover's rules is wrong, please report it"
_AT_A_KINK = (
    "it is proved almost everywhere, but wrong where pieces of the function meet and it has a "
    "derivative all the same"
)


@dataclass(frozen=True)
class Decision:
    """A claim to decide, and how to decide it."""

    function: str
    """The name of the function that the user called, such as ``prove_vjp``, for messages."""
    claims: Callable[[Arguments], Claims]
    counterexample: Callable[[Mapping[str, Spec], Mapping[str, int], Callable[[], bool]], Any]
    """Searches for one, given specs, least sizes, and a function that says whether to go on."""
    timeout: float | None
    search: bool
    """Whether to search for a counterexample even if the claim is proved."""
    kinks: bool = False
    """Whether to prove a function with kinks, such as relu, almost everywhere, or to refuse it."""

    def __post_init__(self) -> None:
        timeout = self.timeout
        if timeout is not None and not (isinstance(timeout, int | float) and timeout > 0):
            raise ValueError(
                f"{self.function}: timeout must be a number of seconds above 0, or None, "
                f"got {timeout!r}."
            )

    def verdict(self, args: Mapping[str, Spec], least: Mapping[str, int] | None) -> Verdict:
        """Returns the verdict for all sizes from ``least`` on, with any counterexample found."""
        start = time.perf_counter()
        if why := untested():
            return Verdict("refused", reason=why)
        book: dict[str, None] = {}
        verdict, sizes = self._at_all_sizes(Sizes(args, dict(least or {})), book, start)
        if sizes.small and (not verdict.proved or self.search):
            found = self.counterexample(sizes.args, sizes.least, self._searching(start))
            if found is not None:
                reason = verdict.reason or (_AT_A_KINK if OFF_KINKS in book else _WRONG_RULE)
                verdict = found.told(Verdict("refuted", reason=reason))
        return replace(verdict, assumptions=tuple(book), seconds=time.perf_counter() - start)

    def _searching(self, start: float) -> Callable[[], bool]:
        """Returns a function that says whether a search that begins now may go on.

        The search ends with the timeout of the verdict, which was begun at ``start``, or after some
        seconds of this process's processor time. So other programs, which may keep the processor
        busy, do not change what the search finds.
        """
        enough = time.process_time() + _SEARCH
        ends = math.inf if self.timeout is None else start + self.timeout
        return lambda: time.process_time() < enough and time.perf_counter() < ends

    def _at_all_sizes(
        self, every: Sizes, book: dict[str, None], start: float
    ) -> tuple[Verdict, Sizes]:
        """Returns the verdict and its sizes: all sizes, or those for which the proof failed.

        The claim is proved at symbolic sizes first, and then at the sizes that the code asks about.
        """
        ends = math.inf
        if self.timeout is not None:  # keeps some seconds to search for a counterexample
            ends = start + self.timeout - min(_SEARCH, self.timeout / 4)
        identity, sizes, waiting = None, every, Waiting([every])
        try:
            for sizes in waiting:
                wanted: dict[str, int] = {}
                verdict, asked = self._at(sizes, book, wanted, ends)
                if verdict.status == "refused" and waiting.apart(sizes, wanted):
                    continue  # the parts of these sizes are proved later
                if not verdict.proved:
                    return verdict, sizes
                identity = identity or verdict.identity
                for question in asked:
                    waiting.put(question, sizes)
        except Refused as error:
            return Verdict("refused", reason=str(error)), sizes
        return Verdict("proved", identity=identity), every

    def _at(
        self, sizes: Sizes, book: dict[str, None], wanted: dict[str, int], ends: float
    ) -> tuple[Verdict, Iterable[Question]]:
        """Returns the verdict for sizes where the answer to all questions is no, and the questions.

        ``wanted`` receives the least values that sizes must have so that the program can be read.
        """
        with forgotten(), noting(sizes.least, book, wanted), questions() as asked:
            if not sizes.where:
                note(sizes.args)
            try:
                return Verdict("proved", identity=self._in_some_way(sizes, ends)), asked
            except (Refused, RecursionError) as error:
                verdict = Verdict("refused", reason=refusal(error))
            except Differs as error:
                reason = left_over(error.what, error.residual)
                if error.what.startswith("the gradient"):
                    reason += f"; the backward is {few_terms(error.claimed)}"
                verdict = Verdict("unknown", reason=reason)
            except Exceeded as error:
                verdict = Verdict("unknown", reason=str(error))
        if sizes.where:
            verdict = replace(
                verdict, reason=f"where {' and '.join(sizes.where)}: {verdict.reason}"
            )
        return verdict, asked

    def _in_some_way(self, sizes: Sizes, ends: float) -> Any:
        """Tries ``shown`` on the whole program for a short time, then by layers, then whole again.

        The first two tries are limited by this process's processor time, so that other programs,
        which may keep the processor busy, do not change how a claim is proved.
        """
        short = min((ends - time.perf_counter()) / 8, _SHORT)

        def tried(of_processor: float = math.inf) -> Any:
            left = ends - time.perf_counter()
            with limited(left, f"timeout={self.timeout} s", of_processor):
                return shown(sizes, self.claims, self.kinks)

        try:
            return tried(short)
        except (Differs, Exceeded) as error:
            forget()
            with by_layers(), contextlib.suppress(Differs, Exceeded, Refused, RecursionError):
                return tried(3 * short)
            if isinstance(error, Differs):
                raise
        forget()
        return tried()


def shown(sizes: Sizes, claims: Callable[[Arguments], Claims], kinks: bool) -> Any:
    """Returns the first claim's wanted term as a SymPy expression if all claims are proved."""
    with lines_of_backwards(), forgotten_if(Exceeded):
        a = arguments(sizes.args)
        try:
            found = claims(a)
            require(found)
        except Kinked:
            if not kinks:
                raise
            assume(OFF_KINKS)
            forget()
            with almost_everywhere(frozenset(a.symbols.values())):
                found = claims(a)
                require(found)
        return to_sympy(found[0][2].value)


@contextlib.contextmanager
def noting(
    least: Mapping[str, int], book: dict[str, None], wanted: dict[str, int] | None = None
) -> Iterator[None]:
    """Sets the least sizes inside the context, and notes a proof's assumptions in ``book``.

    Larger least sizes that turn out to be needed are noted in ``wanted``.
    """
    forget()
    with during(assumed, book), during(least_sizes, dict(least)), during(wanted_sizes, wanted):
        assume("over the real numbers, without rounding or overflow")
        assume("for the rank, the options and the differentiated arguments that were traced")
        assume("where the code asks whether a size is an int, it was told no")
        if text := doubt():
            assume(text)
        yield
