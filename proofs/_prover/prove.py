"""The prover: whether the derivative that JAX will run is that of the function.

1. The value of the function equals a reference, at every input.
2. The reference's term, and nothing else, is differentiated.
3. What ``jax.vjp``, ``jax.jvp`` and their compositions return, read at symbolic sizes,
   is compared with that: derivatives, and the value that a forward rule gives beside them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import jax
from jax.extend import core

from .._jax_internals import Question, doubt, questions, untested
from .._normal_form import Refused, forget
from . import counterexample as search
from . import elementwise as elementwise  # these put in what ``read`` can read
from . import lookups as lookups
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
    read_one,
    require,
    value_of,
)
from .linear import push
from .read import assume, assumed, least_sizes, read
from .sizes import Sizes, Waiting
from .spec import Spec, check
from .sympy import to_sympy
from .trace import Arguments, arguments, new_tensor, note, only, trace
from .verdict import Verdict


def prove_vjp(
    fun: Function,
    args: Mapping[str, Spec],
    wrt: Sequence[str],
    reference: Function | None = None,
    *,
    least: Mapping[str, int] | None = None,
    second_order: bool = False,
) -> Verdict:
    """Whether ``jax.vjp`` of a function gives its derivative, for all sizes.

    Where the code compares sizes, as in ``k == 1``, ``n == k`` or ``k % 2 == 0``, it is traced and
    proved again at those for which that holds. A comparison that is not solved for sizes, or a dict
    or set that is asked for one, is refused.

    Args:
        fun: as the user calls it, with positional arguments, to one array.
        args: the spec of each argument, in their order: ``array``, ``labels``, ``scalar``.
        wrt: the names of the arguments to differentiate.
        reference: a textbook function of the same arguments that ``fun`` must equal.
            Without it the value of ``fun`` itself is differentiated, if it is smooth.
        least: least sizes of dimensions, where 1 will not do: ``{"k": 2}``.
        second_order: instead of the gradient, whether forward mode over it and reverse
            mode over it give its derivative.
    """
    check("prove_vjp", (fun, reference or fun), args, wrt, least)

    def claims(a: Arguments) -> Claims:
        return list(claims_of(fun, a, wrt, reference, second_order))

    order = 2 if second_order else 1

    def wrong(args: Mapping[str, Spec], least: Mapping[str, int]) -> Any:
        return search.vjp(fun, args, wrt, reference or fun, least, order)

    return _decide(args, claims, least, wrong)


def prove_jvp(
    fun: Function,
    args: Mapping[str, Spec],
    wrt: Sequence[str],
    reference: Function | None = None,
    *,
    least: Mapping[str, int] | None = None,
) -> Verdict:
    """Whether ``jax.jvp`` of a function gives its derivative; arguments as ``prove_vjp``."""
    check("prove_jvp", (fun, reference or fun), args, wrt, least)

    def claims(a: Arguments) -> Claims:
        out = value_of(fun, a, reference)
        symbols = [extra(a, f"{w}_dot") for w in wrt]
        tangents = [new_tensor(s, a.tensor(w)) for s, w in zip(symbols, wrt, strict=True)]

        def forward(moving: Sequence[Any], *rest: Any) -> Any:
            of = only(fun, a, wrt)
            primals = tuple(rest[a.names.index(w)] for w in wrt)
            return jax.jvp(lambda *m: of(m, rest), primals, tuple(moving))

        shapes = [a.shape(w) for w in wrt]
        jaxpr = trace(lambda m, *r: forward(m, *r), [shapes, *a.shapes])
        value, claimed = read(jaxpr, [*tangents, *a.tensors])
        pairs = [(a.symbols[w], t) for w, t in zip(wrt, tangents, strict=True)]
        return [
            ("the tangent", claimed, push(out, pairs)),
            ("the value that jax.jvp gives", value, out),
        ]

    def wrong(args: Mapping[str, Spec], least: Mapping[str, int]) -> Any:
        return search.jvp(fun, args, wrt, reference or fun, least)

    return _decide(args, claims, least, wrong)


def prove_equal(
    f: Function, g: Function, args: Mapping[str, Spec], *, least: Mapping[str, int] | None = None
) -> Verdict:
    """Whether two functions have the same value at every input, a number or -inf."""
    check("prove_equal", (f, g), args, None, least)

    def claims(a: Arguments) -> Claims:
        one, other = read_one(f, a), read_one(g, a)
        if one.bad.terms and one.bad == other.bad:
            raise Refused(f"both may be NaN or +inf, which are not told apart, where {one.bad}")
        return [("the value", one, other)]

    return _decide(args, claims, least, lambda args, least: search.equal(f, g, args, least))


def prove_backward(
    value: core.ClosedJaxpr,
    backward: core.ClosedJaxpr,
    args: Mapping[str, Spec],
    wrt: Sequence[str],
    reference: Function | None = None,
    *,
    least: Mapping[str, int] | None = None,
) -> Verdict:
    """``prove_vjp`` of jaxprs already traced, at ``arguments(args).shapes``, without a search.

    What Python asked of sizes while it traced them is not known here: the verdict is about the
    sizes of which these are the jaxprs.

    Args:
        value: of the arguments, to one array.
        backward: of the output's cotangent and the arguments, to a cotangent for each of
            ``wrt``.
        args, wrt, reference, least: as for ``prove_vjp``.
    """

    def claims(a: Arguments) -> Claims:
        (out,) = read(value, a.tensors)
        if reference is not None:
            wanted = read_one(reference, a)
            require([("the value", out, wanted)])
            out = wanted
        finite("the value", out)
        g = new_tensor(extra(a, "g"), out)
        return gradients(read(backward, [g, *a.tensors]), out, g, a, wrt)

    return _decide(args, claims, least, lambda *_: None, retraced=False)


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
        at = f"\ncounterexample: {verdict.counterexample}" if verdict.counterexample else ""
        name = getattr(fun, "__name__", fun)
        raise AssertionError(f"{name} is not proved: {verdict.status}: {verdict.reason}{at}")


def _decide(
    args: Mapping[str, Spec],
    claims: Callable[[Arguments], Claims],
    least: Mapping[str, int] | None,
    counterexample: Callable[[Mapping[str, Spec], Mapping[str, int]], Any],
    retraced: bool = True,
) -> Verdict:
    """The verdict for all sizes: symbolic ones, then those that the code asks for.

    The latter only where ``claims`` traces the code, which then answers otherwise.
    """
    start = time.perf_counter()
    if why := untested():
        return Verdict("refused", reason=why)
    identity, status, reason, wrong = None, "proved", "", None
    book: dict[str, None] = {}
    sizes = Sizes(args, dict(least or {}))
    waiting = Waiting([sizes])
    try:
        for sizes in waiting:
            status, reason, identity_here, asked = _decide_at(sizes, claims, book)
            identity = identity or identity_here
            if status != "proved":
                break
            for question in asked if retraced else ():
                waiting.put(question, sizes)
    except Refused as error:
        status, reason = "refused", str(error)
    if status != "proved":
        wrong = counterexample(sizes.args, sizes.least) if sizes.small else None
        status = status if wrong is None else "refuted"
    seconds = time.perf_counter() - start
    return Verdict(status, wrong, tuple(book), reason, identity, seconds)  # type: ignore[arg-type]


def _decide_at(
    sizes: Sizes, claims: Callable[[Arguments], Claims], book: dict[str, None]
) -> tuple[str, str, Any, Iterable[Question]]:
    """Status, reason and identity for the sizes at which no question holds; and the questions."""
    identity, status, reason = None, "proved", ""
    with _noting(sizes.least, book), questions() as asked:
        if not sizes.where:
            note(sizes.args)
        try:
            a = arguments(sizes.args)
            found = claims(a)
            require(found)
            identity = to_sympy(found[0][2].value)
        except (Refused, RecursionError) as error:
            status, reason = "refused", str(error)
        except Differs as error:
            status, reason = "unknown", str(error)
    if reason and sizes.where:
        reason = f"where {' and '.join(sizes.where)}: {reason}"
    return status, reason, identity, asked


@contextmanager
def _noting(least: Mapping[str, int], book: dict[str, None]) -> Iterator[None]:
    forget()
    tokens = assumed.set(book), least_sizes.set(dict(least))
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
