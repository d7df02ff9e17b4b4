"""What is claimed of a function: that what JAX will run is the derivative of its value."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from .._normal_form import Poly, Refused, Symbol, usual
from .layers import equal, through, without_names
from .linear import pull, push
from .read import assume, read
from .tensor import Tensor
from .trace import Arguments, new_tensor, only, trace
from .words import few_terms

Function = Callable[..., Any]


Claims = list[tuple[str, Tensor, Tensor]]  # what it is, as claimed, as it should be


class Differs(Exception):
    """Two terms that are not shown equal: what they are, as claimed, and the difference."""

    def __init__(self, what: str, claimed: Poly, residual: Poly):
        self.what, self.claimed, self.residual = what, claimed, residual
        text = str(residual)
        super().__init__(f"{what}: {text if len(text) < 600 else text[:600] + ' ...'} is left over")


def vjp_of(fun: Function, a: Arguments, wrt: Sequence[str]) -> Function:
    """``(g, *args) -> (value, *cotangents)`` as JAX will run it."""
    of = only(fun, a, wrt)

    def both(g: Any, *rest: Any) -> Any:
        primals = tuple(rest[a.names.index(w)] for w in wrt)
        value, pullback = jax.vjp(lambda *m: of(m, rest), *primals)
        return value, *pullback(g)

    return both


def claims_of(
    fun: Function,
    a: Arguments,
    wrt: Sequence[str],
    reference: Function | None,
    second: bool,
    surrogate: Function | None = None,
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """The derivatives that JAX will run beside those of the terms of the reference.

    Or of the surrogate, if there is one: then the reference is one of the values alone.
    """
    values = values_of(fun, a, reference)
    outs = values if surrogate is None else _surrogates(surrogate, a, values)
    g_shape = jax.eval_shape(fun, *a.shapes)
    names = ["g"] if len(outs) == 1 else [f"g{i}" for i in range(len(outs))]
    g = {name: new_tensor(extra(a, name), out) for name, out in zip(names, outs, strict=True)}
    both = vjp_of(fun, a, wrt)

    def backward(*args: Any) -> Any:
        return both(*args)[1:]

    if not second:
        many = len(outs)
        outs, cotangents = through(outs, list(g.values()))  # their names come first
        found = read(trace(both, [g_shape, *a.shapes]), [*g.values(), *a.tensors])
        yield from gradients(found[many:], outs, cotangents, a, wrt)
        names = numbered("the value that jax.vjp gives", values)
        yield from zip(names, found[:many], values, strict=True)
        return
    without_names("second orders")
    grads = [pull(outs, list(g.values()), a.symbols[w], a.tensor(w)) for w in wrt]
    yield from _forward_over(backward, grads, g, g_shape, a, wrt)
    yield from _reverse_over(backward, grads, g, g_shape, a, wrt)


def gradients(
    claimed: Sequence[Tensor], outs: Sequence[Tensor], g: Sequence[Tensor], a: Arguments, wrt: Any
) -> Claims:
    """Gradients as claimed beside those of the terms of outputs under their cotangents."""
    claims = []
    for w, c in zip(wrt, claimed, strict=True):
        try:
            wanted = pull(outs, g, a.symbols[w], a.tensor(w))
        except Refused as error:
            raise type(error)(f"{error}; the backward is {few_terms(c.value)}") from error
        claims.append((f"the gradient to {w}", c, wanted))
    return claims


def numbered(what: str, outs: Sequence[Any]) -> list[str]:
    """Names for the outputs."""
    return [what if len(outs) == 1 else f"{what}, output {i}" for i in range(len(outs))]


def _forward_over(
    backward: Function,
    grads: list[Tensor],
    g: Mapping[str, Tensor],
    g_shape: Any,
    a: Arguments,
    wrt: Any,
) -> Claims:
    tangents = [new_tensor(extra(a, f"{w}_dot"), a.tensor(w)) for w in wrt]

    def forward(moving: Sequence[Any], g: Any, *rest: Any) -> Any:
        of = only(lambda *args: backward(g, *args), a, wrt)
        primals = tuple(rest[a.names.index(w)] for w in wrt)
        return jax.jvp(lambda *m: of(m, rest), primals, tuple(moving))[1]

    jaxpr = trace(forward, [[a.shape(w) for w in wrt], g_shape, *a.shapes])
    claimed = read(jaxpr, [*tangents, *g.values(), *a.tensors])
    pairs = [(a.symbols[w], t) for w, t in zip(wrt, tangents, strict=True)]
    return [
        (f"forward over the gradient to {w}", c, push(grad, pairs))
        for w, c, grad in zip(wrt, claimed, grads, strict=True)
    ]


def _reverse_over(
    backward: Function,
    grads: list[Tensor],
    g: Mapping[str, Tensor],
    g_shape: Any,
    a: Arguments,
    wrt: Any,
) -> Claims:
    seconds = [new_tensor(extra(a, f"{w}_bar"), a.tensor(w)) for w in wrt]

    def reverse(h: Sequence[Any], g: Any, *rest: Any) -> Any:
        primals = tuple(rest[a.names.index(w)] for w in wrt)

        def of(g: Any, *moving: Any) -> Any:
            return only(lambda *args: backward(g, *args), a, wrt)(moving, rest)

        return jax.vjp(of, g, *primals)[1](tuple(h))

    jaxpr = trace(reverse, [[a.shape(w) for w in wrt], g_shape, *a.shapes])
    claimed = read(jaxpr, [*seconds, *g.values(), *a.tensors])
    targets = [
        *((name, extra(a, name), t) for name, t in g.items()),
        *((w, a.symbols[w], a.tensor(w)) for w in wrt),
    ]
    return [
        (f"reverse over the gradient, to {name}", c, pull(grads, seconds, symbol, like))
        for c, (name, symbol, like) in zip(claimed, targets, strict=True)
    ]


def extra(a: Arguments, name: str) -> Symbol:
    """A cotangent or a tangent, by a name that no argument has."""
    while name in a.names:
        name += "_"
    return Symbol(name, "real")


def values_of(fun: Function, a: Arguments, reference: Function | None) -> list[Tensor]:
    """The function's values, which must be the reference's, as the reference writes them."""
    outs = read_all(fun, a)
    names = numbered("the value", outs)
    if reference is not None:
        wanted = read_all(reference, a)
        if len(wanted) != len(outs):
            raise Refused(f"a function of {len(outs)} outputs beside one of {len(wanted)}")
        require(list(zip(names, outs, wanted, strict=True)))
        outs = wanted
    for name, out in zip(names, outs, strict=True):
        finite(name, out)
    return outs


def _surrogates(surrogate: Function, a: Arguments, values: list[Tensor]) -> list[Tensor]:
    """The terms of a function whose derivative the backward pass is meant to be."""
    outs = values_of(surrogate, a, None)
    if [t.shape for t in outs] != [t.shape for t in values]:
        raise Refused("a surrogate whose outputs have other shapes than those of the function")
    name = getattr(surrogate, "__name__", "surrogate")
    assume(f"the backward pass is meant to be that of the surrogate, {name}, not of the value")
    return outs


def read_all(fun: Function, a: Arguments) -> list[Tensor]:
    """The outputs of a function, as terms."""
    outs = read(trace(fun, a.shapes), a.tensors)
    for t in outs if len(outs) > 1 else ():
        if not np.issubdtype(t.dtype, np.floating):
            raise Refused(
                f"an output of {np.dtype(t.dtype)} beside others: leave it out, for only arrays of "
                "floats have a derivative"
            )
    return outs


def finite(what: str, t: Tensor) -> None:
    """Refuses what may be infinite or NaN."""
    for flag, name in ((t.lowest, "-inf"), (t.bad, "NaN or +inf")):
        if flag.terms:
            raise Refused(f"{what} may be {name}, where {flag}")


def require(claims: Claims) -> None:
    """Returns if each claim holds everywhere; raises ``Differs`` at one that is not shown."""
    for what, claimed, wanted in claims:
        if claimed.shape != wanted.shape:
            raise Refused(f"{what} has the shape {claimed.shape}, wanted {wanted.shape}")
        for flags in ((claimed.lowest, wanted.lowest), (claimed.bad, wanted.bad)):
            if (flag := usual(flags[0] - flags[1])).terms:
                raise Refused(f"{what} may be infinite or NaN, where {flag}")
        if not equal(claimed.value, wanted.value):
            raise Differs(what, claimed.value, usual(claimed.value - wanted.value))
