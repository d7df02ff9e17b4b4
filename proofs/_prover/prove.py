"""The prover: whether the derivative that JAX will run is that of the function.

1. The value of the function equals a reference, at every input.
2. The reference's term, and nothing else, is differentiated.
3. What ``jax.vjp``, ``jax.jvp`` and their compositions return, read at symbolic sizes,
   is compared with that: derivatives, and the value that a forward rule gives beside them.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import jax
from jax.extend import core

from .._jax_internals import Question, doubt, lines_of_backwards, questions, untested
from .._normal_form import (
    Exceeded,
    Kinked,
    Refused,
    almost_everywhere,
    forget,
    forgotten_if,
    limited,
)
from . import counterexample as numbers
from . import elementwise as elementwise  # these put in what ``read`` can read
from . import lookups as lookups
from . import parts as parts
from . import scan as scan
from . import shapes as shapes
from . import truth as truth
from .claims import (
    Claims,
    Differs,
    Function,
    claims_of,
    extra,
    finite,
    gradients,
    numbered,
    read_all,
    require,
    values_of,
)
from .layers import by_layers, without_names
from .linear import push
from .read import assume, assumed, least_sizes, read, wanted_sizes
from .sizes import Sizes, Waiting
from .spec import Spec, check
from .sympy import to_sympy
from .trace import Arguments, arguments, new_tensor, note, only, trace
from .trees import flattened
from .verdict import OFF_KINKS, Verdict
from .words import few_terms, left_over, refusal

TIMEOUT = 120.0
"""For how many seconds a verdict is tried for, unless told otherwise."""
_SEARCH = 10.0
_SHORT = 15.0
_WRONG_RULE = "it seemed proved: one of the prover's rules is wrong, please report it"
_AT_A_KINK = (
    "it is proved almost everywhere, but wrong where pieces of the function meet and it has a "
    "derivative all the same"
)


@dataclass(frozen=True)
class Limits:
    """For how long a verdict is tried for, and whether numbers are tried on what is proved."""

    function: str
    timeout: float | None
    search: bool

    def __post_init__(self) -> None:
        timeout = self.timeout
        if timeout is not None and not (isinstance(timeout, int | float) and timeout > 0):
            raise ValueError(
                f"{self.function}: timeout must be a number of seconds above 0, or None, "
                f"got {timeout!r}."
            )

    @property
    def of_proof(self) -> float:
        """Seconds, so that some are left to look for a counterexample."""
        if self.timeout is None:
            return float("inf")
        return self.timeout - min(_SEARCH, self.timeout / 4)

    def searching(self, start: float) -> Callable[[], bool]:
        """Returns whether a search that begins now goes on, of a verdict begun at ``start``.

        It has some seconds of this process's own time, so that other programs, which may keep the
        processor busy, do not change what it finds.
        """
        enough = time.process_time() + _SEARCH
        ends = float("inf") if self.timeout is None else start + self.timeout
        return lambda: time.process_time() < enough and time.perf_counter() < ends


def prove_vjp(
    fun: Function,
    args: Mapping[str, Spec],
    wrt: Sequence[str],
    reference: Function | None = None,
    *,
    surrogate: Function | None = None,
    least: Mapping[str, int] | None = None,
    second_order: bool = False,
    timeout: float | None = TIMEOUT,
    search: bool = True,
    kinks: bool = True,
) -> Verdict:
    """Whether ``jax.vjp`` of a function gives its derivative, for all sizes.

    Where the code compares sizes, as in ``k == 1``, ``n == k`` or ``k % 2 == 0``, it is traced and
    proved again at those for which that holds. A comparison that is not solved for sizes, or a dict
    or set that is asked for one, is refused.

    Args:
        fun: as the user calls it, with positional arguments, to one array or a tree of them.
        args: the spec of each argument, in their order: ``array``, ``labels``,
            ``permutation``, ``scalar``, or a tree of those for an argument that is a tree:
            ``{"p": {"w": array("n d")}}``.
        wrt: the names of the arguments to differentiate; of a tree, all arrays of floats in it, and
            ``"p['w']"`` is one of them.
        reference: a textbook function of the same arguments that ``fun`` must equal.
            Without it the value of ``fun`` itself is differentiated.
        surrogate: for a rule that is no derivative on purpose, such as a straight-through
            estimator: a function whose derivative the backward pass is meant to be. The value
            is still that of ``fun``, and of the reference.
        least: least sizes of dimensions, where 1 will not do: ``{"k": 2}``.
        second_order: instead of the gradient, whether forward mode over it and reverse
            mode over it give its derivative.
        timeout: for how many seconds at most to try; None for any time. The verdict is
            "unknown" at the end of it, or where the process has grown by 4 GiB of memory.
        search: whether arguments at which it is wrong are looked for where it is proved, too.
        kinks: whether a function in pieces, such as relu, is proved almost everywhere: nothing is
            claimed where its pieces meet, and ``assumptions`` say so. If False it is refused.
    """
    args, wrt, of_arrays = flattened(args, wrt)
    check("prove_vjp", (fun, reference or fun, surrogate or fun), args, wrt, least)
    fun, reference, surrogate = map(of_arrays, (fun, reference, surrogate))
    limits = Limits("prove_vjp", timeout, search)

    def claims(a: Arguments) -> Claims:
        return list(claims_of(fun, a, wrt, reference, second_order, surrogate))

    order = 2 if second_order else 1

    def wrong(
        args: Mapping[str, Spec], least: Mapping[str, int], goes_on: Callable[[], bool]
    ) -> Any:
        slope = surrogate or reference or fun
        return numbers.vjp(fun, args, wrt, reference or fun, slope, least, order, goes_on)

    return _decide(args, claims, least, limits, wrong, kinks=kinks)


def prove_jvp(
    fun: Function,
    args: Mapping[str, Spec],
    wrt: Sequence[str],
    reference: Function | None = None,
    *,
    least: Mapping[str, int] | None = None,
    timeout: float | None = TIMEOUT,
    search: bool = True,
    kinks: bool = True,
) -> Verdict:
    """Whether ``jax.jvp`` of a function gives its derivative; arguments as ``prove_vjp``."""
    args, wrt, of_arrays = flattened(args, wrt)
    check("prove_jvp", (fun, reference or fun), args, wrt, least)
    fun, reference = map(of_arrays, (fun, reference))
    limits = Limits("prove_jvp", timeout, search)

    def claims(a: Arguments) -> Claims:
        without_names("forward mode")
        outs = values_of(fun, a, reference)
        symbols = [extra(a, f"{w}_dot") for w in wrt]
        tangents = [new_tensor(s, a.tensor(w)) for s, w in zip(symbols, wrt, strict=True)]

        def forward(moving: Sequence[Any], *rest: Any) -> Any:
            of = only(fun, a, wrt)
            primals = tuple(rest[a.names.index(w)] for w in wrt)
            return jax.jvp(lambda *m: of(m, rest), primals, tuple(moving))

        shapes = [a.shape(w) for w in wrt]
        jaxpr = trace(lambda m, *r: forward(m, *r), [shapes, *a.shapes])
        found = read(jaxpr, [*tangents, *a.tensors])
        pairs = [(a.symbols[w], t) for w, t in zip(wrt, tangents, strict=True)]
        values, claimed = found[: len(outs)], found[len(outs) :]
        wanted = [push(out, pairs) for out in outs]
        return [
            *zip(numbered("the tangent", outs), claimed, wanted, strict=True),
            *zip(numbered("the value that jax.jvp gives", outs), values, outs, strict=True),
        ]

    def wrong(
        args: Mapping[str, Spec], least: Mapping[str, int], goes_on: Callable[[], bool]
    ) -> Any:
        return numbers.jvp(fun, args, wrt, reference or fun, least, goes_on)

    return _decide(args, claims, least, limits, wrong, kinks=kinks)


def prove_equal(
    f: Function,
    g: Function,
    args: Mapping[str, Spec],
    *,
    least: Mapping[str, int] | None = None,
    timeout: float | None = TIMEOUT,
    search: bool = True,
) -> Verdict:
    """Whether two functions have the same value at every input, a number or -inf.

    The options are those of ``prove_vjp``.
    """
    args, _, of_arrays = flattened(args)
    check("prove_equal", (f, g), args, None, least)
    f, g = map(of_arrays, (f, g))
    limits = Limits("prove_equal", timeout, search)

    def claims(a: Arguments) -> Claims:
        ones, others = read_all(f, a), read_all(g, a)
        if len(ones) != len(others):
            raise Refused(f"a function of {len(ones)} outputs beside one of {len(others)}")
        for one, other in zip(ones, others, strict=True):
            if one.bad.terms and one.bad == other.bad:
                raise Refused(f"both may be NaN or +inf, which are not told apart, where {one.bad}")
        return list(zip(numbered("the value", ones), ones, others, strict=True))

    def wrong(
        args: Mapping[str, Spec], least: Mapping[str, int], goes_on: Callable[[], bool]
    ) -> Any:
        return numbers.equal(f, g, args, least, goes_on)

    return _decide(args, claims, least, limits, wrong)


def prove_backward(
    value: core.ClosedJaxpr,
    backward: core.ClosedJaxpr,
    args: Mapping[str, Spec],
    wrt: Sequence[str],
    reference: Function | None = None,
    *,
    least: Mapping[str, int] | None = None,
    timeout: float | None = TIMEOUT,
) -> Verdict:
    """``prove_vjp`` of jaxprs already traced, at ``arguments(args).shapes``, without a search.

    What Python asked of sizes while it traced them is not known here: the verdict is about the
    sizes of which these are the jaxprs.

    Args:
        value: of the arguments, to one array.
        backward: of the output's cotangent and the arguments, to a cotangent for each of
            ``wrt``.
        args, wrt, reference, least, timeout: as for ``prove_vjp``.
    """
    limits = Limits("prove_backward", timeout, False)

    def claims(a: Arguments) -> Claims:
        without_names("a traced backward")
        (out,) = read(value, a.tensors)
        if reference is not None:
            (wanted,) = read_all(reference, a)
            require([("the value", out, wanted)])
            out = wanted
        finite("the value", out)
        g = new_tensor(extra(a, "g"), out)
        return gradients(read(backward, [g, *a.tensors]), [out], [g], a, wrt)

    return _decide(args, claims, least, limits, lambda *_: None, retraced=False)


def assert_vjp_proved(
    fun: Function,
    args: Mapping[str, Spec],
    wrt: Sequence[str],
    reference: Function | None = None,
    **options: Any,
) -> None:
    """``prove_vjp`` as a test: an AssertionError with the reason unless proved."""
    verdict = prove_vjp(fun, args, wrt, reference, **options)
    if not verdict.proved:
        name = getattr(fun, "__name__", fun)
        raise AssertionError(f"{name} is not proved: {verdict}")


def _decide(
    args: Mapping[str, Spec],
    claims: Callable[[Arguments], Claims],
    least: Mapping[str, int] | None,
    limits: Limits,
    counterexample: Callable[[Mapping[str, Spec], Mapping[str, int], Callable[[], bool]], Any],
    retraced: bool = True,
    kinks: bool = False,
) -> Verdict:
    """The verdict for all sizes: symbolic ones, then those that the code asks for.

    The latter only where ``claims`` traces the code, which then answers otherwise.
    """
    start = time.perf_counter()
    if why := untested():
        return Verdict("refused", reason=why)
    identity, status, reason, wrong = None, "proved", "", None
    book: dict[str, None] = {}
    sizes = every = Sizes(args, dict(least or {}))
    waiting = Waiting([sizes])
    try:
        for sizes in waiting:
            seconds = limits.of_proof - (time.perf_counter() - start)
            wanted: dict[str, int] = {}
            status, reason, identity_here, asked = _decide_at(
                sizes, claims, book, wanted, seconds, limits.timeout, kinks
            )
            if retraced and status == "refused" and waiting.apart(sizes, wanted):
                status, reason = "proved", ""  # if all of its parts are
                continue
            identity = identity or identity_here
            if status != "proved":
                break
            for question in asked if retraced else ():
                waiting.put(question, sizes)
    except Refused as error:
        status, reason = "refused", str(error)
    tried = every if status == "proved" else sizes
    if tried.small and (status != "proved" or limits.search):
        wrong = counterexample(tried.args, tried.least, limits.searching(start))
    if wrong is not None:
        reason = reason or (_AT_A_KINK if OFF_KINKS in book else _WRONG_RULE)
        status, identity = "refuted", None
    took = time.perf_counter() - start
    answer = Verdict(status, None, tuple(book), reason, identity, took)  # type: ignore[arg-type]
    return answer if wrong is None else wrong.told(answer)


def _decide_at(
    sizes: Sizes,
    claims: Callable[[Arguments], Claims],
    book: dict[str, None],
    wanted: dict[str, int],
    seconds: float,
    timeout: float | None,
    kinks: bool,
) -> tuple[str, str, Any, Iterable[Question]]:
    """Status, reason and identity for the sizes at which no question holds; and the questions.

    ``wanted`` is filled with the least values that sizes must have for the program to be read.
    """
    identity, status, reason = None, "proved", ""
    with _noting(sizes.least, book, wanted), questions() as asked:
        if not sizes.where:
            note(sizes.args)
        try:
            with forgotten_if(Exceeded):
                identity = _shown_in_some_way(sizes, claims, seconds, timeout, kinks)
        except (Refused, RecursionError) as error:
            status, reason = "refused", refusal(error)
        except Differs as error:
            status, reason = "unknown", left_over(error.what, error.residual)
            if error.what.startswith("the gradient"):
                reason += f"; the backward is {few_terms(error.claimed)}"
        except Exceeded as error:
            status, reason = "unknown", str(error)
    if reason and sizes.where:
        reason = f"where {' and '.join(sizes.where)}: {reason}"
    return status, reason, identity, asked


def _shown_in_some_way(
    sizes: Sizes,
    claims: Callable[[Arguments], Claims],
    seconds: float,
    timeout: float | None,
    kinks: bool,
) -> Any:
    """Tries ``_shown`` at once for a short time, then layer by layer, then at once again.

    The first two have some seconds of this process's own time, so that other programs, which may
    keep the processor busy, do not change how something is proved.
    """
    ends = time.perf_counter() + seconds
    short = min(seconds / 8, _SHORT)

    def shown(of_processor: float = math.inf) -> Any:
        left = ends - time.perf_counter()
        with limited(left, f"timeout={timeout} s", of_processor):
            return _shown(sizes, claims, kinks)

    try:
        return shown(short)
    except (Differs, Exceeded) as error:
        forget()
        with by_layers(), contextlib.suppress(Differs, Exceeded, Refused, RecursionError):
            return shown(3 * short)
        if isinstance(error, Differs):
            raise
    forget()
    return shown()


def _shown(sizes: Sizes, claims: Callable[[Arguments], Claims], kinks: bool) -> Any:
    """The first claim that was shown, as an identity, if all of them are."""
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


@contextmanager
def _noting(
    least: Mapping[str, int], book: dict[str, None], wanted: dict[str, int] | None = None
) -> Iterator[None]:
    forget()
    tokens = assumed.set(book), least_sizes.set(dict(least)), wanted_sizes.set(wanted)
    try:
        assume("over the real numbers, without rounding or overflow")
        assume("for the rank, the options and the differentiated arguments that were traced")
        assume("where the code asks whether a size is an int, it was told no")
        if text := doubt():
            assume(text)
        yield
    finally:
        assumed.reset(tokens[0])
        least_sizes.reset(tokens[1])
        wanted_sizes.reset(tokens[2])
