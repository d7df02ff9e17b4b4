"""The prover: whether the derivative that JAX will run is that of the function.

1. The value of the function equals a reference, at every input.
2. The reference's term, and nothing else, is differentiated.
3. What ``jax.vjp``, ``jax.jvp`` and their compositions return, read at symbolic sizes,
   is compared with that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import jax
from jax.extend import core

from . import _counterexample as search
from . import _elementwise as _elementwise
from . import _scan as _scan
from . import _shapes as _shapes
from ._derivative import vanishes
from ._jax_internals import doubt, untested
from ._linear import pull, push
from ._normal_form import Poly, Refused, Symbol, forget
from ._read import assume, assumed, least_sizes, read
from ._spec import Spec
from ._sympy import to_sympy
from ._tensor import Tensor
from ._trace import Arguments, arguments, new_tensor, only, trace
from ._verdict import Verdict

Function = Callable[..., Any]
Claims = list[tuple[str, Tensor, Tensor]]  # what it is, as claimed, as it should be


class _Differs(Exception):
    """Two terms that are not shown equal."""

    def __init__(self, what: str, residual: Poly):
        text = str(residual)
        super().__init__(f"{what}: {text if len(text) < 600 else text[:600] + ' ...'} is left over")


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

    def claims(a: Arguments) -> Claims:
        return list(_claims(fun, a, wrt, reference, second_order))

    order = 2 if second_order else 1
    return _decide(
        args, claims, least, lambda: search.vjp(fun, args, wrt, reference or fun, least, order)
    )


def prove_jvp(
    fun: Function,
    args: Mapping[str, Spec],
    wrt: Sequence[str],
    reference: Function | None = None,
    *,
    least: Mapping[str, int] | None = None,
) -> Verdict:
    """Whether ``jax.jvp`` of a function gives its derivative; arguments as ``prove_vjp``."""

    def claims(a: Arguments) -> Claims:
        out = _value(fun, a, reference)
        symbols = [_extra(a, f"{w}_dot") for w in wrt]
        tangents = [new_tensor(s, a.tensor(w)) for s, w in zip(symbols, wrt, strict=True)]

        def forward(moving: Sequence[Any], *rest: Any) -> Any:
            of = only(fun, a, wrt)
            primals = tuple(rest[a.names.index(w)] for w in wrt)
            return jax.jvp(lambda *m: of(m, rest), primals, tuple(moving))[1]

        shapes = [a.shape(w) for w in wrt]
        jaxpr = trace(lambda m, *r: forward(m, *r), [shapes, *a.shapes])
        (claimed,) = read(jaxpr, [*tangents, *a.tensors])
        pairs = [(a.symbols[w], t) for w, t in zip(wrt, tangents, strict=True)]
        return [("the tangent", claimed, push(out, pairs))]

    return _decide(args, claims, least, lambda: search.jvp(fun, args, wrt, reference or fun, least))


def prove_equal(
    f: Function, g: Function, args: Mapping[str, Spec], *, least: Mapping[str, int] | None = None
) -> Verdict:
    """Whether two functions have the same value at every input."""

    def claims(a: Arguments) -> Claims:
        return [("the value", _read_one(f, a), _read_one(g, a))]

    return _decide(args, claims, least, lambda: search.equal(f, g, args, least))


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

    Args:
        value: of the arguments, to one array.
        backward: of the output's cotangent and the arguments, to a cotangent for each of
            ``wrt``.
        args, wrt, reference, least: as for ``prove_vjp``.
    """

    def claims(a: Arguments) -> Claims:
        (out,) = read(value, a.tensors)
        if reference is not None:
            wanted = _read_one(reference, a)
            _require([("the value", out, wanted)])
            out = wanted
        _finite("the value", out)
        g = new_tensor(_extra(a, "g"), out)
        return _gradients(read(backward, [g, *a.tensors]), out, g, a, wrt)

    return _decide(args, claims, least, lambda: None)


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
        raise AssertionError(
            f"{verdict.status}: {verdict.reason}\ncounterexample: {verdict.counterexample}"
        )


# ---------------------------------------------------------------- what is claimed


def vjp_of(fun: Function, a: Arguments, wrt: Sequence[str]) -> Function:
    """``(g, *args) -> cotangents`` as JAX will run it."""
    of = only(fun, a, wrt)

    def backward(g: Any, *rest: Any) -> Any:
        primals = tuple(rest[a.names.index(w)] for w in wrt)
        return jax.vjp(lambda *m: of(m, rest), *primals)[1](g)

    return backward


def _claims(
    fun: Function, a: Arguments, wrt: Sequence[str], reference: Function | None, second: bool
) -> Iterator[tuple[str, Tensor, Tensor]]:
    out = _value(fun, a, reference)
    g_shape = jax.eval_shape(fun, *a.shapes)
    g = new_tensor(_extra(a, "g"), out)
    backward = vjp_of(fun, a, wrt)
    if not second:
        yield from _gradients(
            read(trace(backward, [g_shape, *a.shapes]), [g, *a.tensors]), out, g, a, wrt
        )
        return
    grads = [pull([out], [g], a.symbols[w], a.tensor(w)) for w in wrt]
    yield from _forward_over(backward, grads, g, g_shape, a, wrt)
    yield from _reverse_over(backward, grads, g, g_shape, a, wrt)


def _gradients(
    claimed: Sequence[Tensor], out: Tensor, g: Tensor, a: Arguments, wrt: Sequence[str]
) -> Claims:
    return [
        (f"the gradient to {w}", c, pull([out], [g], a.symbols[w], a.tensor(w)))
        for w, c in zip(wrt, claimed, strict=True)
    ]


def _forward_over(
    backward: Function, grads: list[Tensor], g: Tensor, g_shape: Any, a: Arguments, wrt: Any
) -> Claims:
    tangents = [new_tensor(_extra(a, f"{w}_dot"), a.tensor(w)) for w in wrt]

    def forward(moving: Sequence[Any], g: Any, *rest: Any) -> Any:
        of = only(lambda *args: backward(g, *args), a, wrt)
        primals = tuple(rest[a.names.index(w)] for w in wrt)
        return jax.jvp(lambda *m: of(m, rest), primals, tuple(moving))[1]

    jaxpr = trace(forward, [[a.shape(w) for w in wrt], g_shape, *a.shapes])
    claimed = read(jaxpr, [*tangents, g, *a.tensors])
    pairs = [(a.symbols[w], t) for w, t in zip(wrt, tangents, strict=True)]
    return [
        (f"forward over the gradient to {w}", c, push(grad, pairs))
        for w, c, grad in zip(wrt, claimed, grads, strict=True)
    ]


def _reverse_over(
    backward: Function, grads: list[Tensor], g: Tensor, g_shape: Any, a: Arguments, wrt: Any
) -> Claims:
    seconds = [new_tensor(_extra(a, f"{w}_bar"), a.tensor(w)) for w in wrt]

    def reverse(h: Sequence[Any], g: Any, *rest: Any) -> Any:
        primals = tuple(rest[a.names.index(w)] for w in wrt)

        def of(g: Any, *moving: Any) -> Any:
            return only(lambda *args: backward(g, *args), a, wrt)(moving, rest)

        return jax.vjp(of, g, *primals)[1](tuple(h))

    jaxpr = trace(reverse, [[a.shape(w) for w in wrt], g_shape, *a.shapes])
    claimed = read(jaxpr, [*seconds, g, *a.tensors])
    targets = [("g", _extra(a, "g"), g), *((w, a.symbols[w], a.tensor(w)) for w in wrt)]
    return [
        (f"reverse over the gradient, to {name}", c, pull(grads, seconds, symbol, like))
        for c, (name, symbol, like) in zip(claimed, targets, strict=True)
    ]


def _extra(a: Arguments, name: str) -> Symbol:
    """A cotangent or a tangent, by a name that no argument has."""
    while name in a.names:
        name += "_"
    return Symbol(name, "real")


def _value(fun: Function, a: Arguments, reference: Function | None) -> Tensor:
    """The function's value, which must be the reference's, as the reference writes it."""
    out = _read_one(fun, a)
    if reference is not None:
        wanted = _read_one(reference, a)
        _require([("the value", out, wanted)])
        out = wanted
    _finite("the value", out)
    return out


def _read_one(fun: Function, a: Arguments) -> Tensor:
    outs = read(trace(fun, a.shapes), a.tensors)
    if len(outs) != 1:
        raise Refused(f"a function of {len(outs)} outputs; give one at a time")
    return outs[0]


# ---------------------------------------------------------------- deciding


def _finite(what: str, t: Tensor) -> None:
    for flag, name in ((t.lowest, "-inf"), (t.bad, "NaN or +inf")):
        if flag.terms:
            raise Refused(f"{what} may be {name}, where {flag}")


def _require(claims: Claims) -> None:
    for what, claimed, wanted in claims:
        if claimed.shape != wanted.shape:
            raise Refused(f"{what} has the shape {claimed.shape}, wanted {wanted.shape}")
        for flags in ((claimed.lowest, wanted.lowest), (claimed.bad, wanted.bad)):
            if flags[0] != flags[1]:
                raise Refused(f"{what} may be infinite or NaN, where {flags[0] - flags[1]}")
        residual = claimed.value - wanted.value
        if not vanishes(residual):
            raise _Differs(what, residual)


def _decide(
    args: Mapping[str, Spec],
    claims: Callable[[Arguments], Claims],
    least: Mapping[str, int] | None,
    counterexample: Callable[[], Any],
) -> Verdict:
    start = time.perf_counter()
    if why := untested():
        return Verdict("refused", reason=why)
    with _noting(least) as notes:
        identity, status, reason = None, "proved", ""
        try:
            a = arguments(args)
            found = claims(a)
            _require(found)
            identity = to_sympy(found[0][2].value)
        except (Refused, RecursionError) as error:
            status, reason = "refused", str(error)
        except _Differs as error:
            status, reason = "unknown", str(error)
    wrong = None
    if status != "proved":
        wrong = counterexample()
        status = status if wrong is None else "refuted"
    seconds = time.perf_counter() - start
    return Verdict(status, wrong, notes(), reason, identity, seconds)  # type: ignore[arg-type]


@contextmanager
def _noting(least: Mapping[str, int] | None) -> Iterator[Callable[[], tuple[str, ...]]]:
    forget()
    book: dict[str, None] = {}
    tokens = assumed.set(book), least_sizes.set(dict(least or {}))
    try:
        assume("over the real numbers, without rounding or overflow")
        assume("for the rank and the options that were traced")
        if text := doubt():
            assume(text)
        yield lambda: tuple(book)
    finally:
        assumed.reset(tokens[0])
        least_sizes.reset(tokens[1])
