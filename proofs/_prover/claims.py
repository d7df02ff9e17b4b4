"""What is claimed of a function: that what JAX will run is the derivative of its value."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax

from .._normal_form import Poly, Refused, Symbol, usual, vanishes
from .linear import pull, push
from .read import read
from .tensor import Tensor
from .trace import Arguments, new_tensor, only, trace

Function = Callable[..., Any]


Claims = list[tuple[str, Tensor, Tensor]]  # what it is, as claimed, as it should be


class Differs(Exception):
    """Two terms that are not shown equal."""

    def __init__(self, what: str, residual: Poly):
        self.what, self.residual = what, residual
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
    fun: Function, a: Arguments, wrt: Sequence[str], reference: Function | None, second: bool
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """The derivatives that JAX will run beside those of the reference's term."""
    out = value_of(fun, a, reference)
    g_shape = jax.eval_shape(fun, *a.shapes)
    g = new_tensor(extra(a, "g"), out)
    both = vjp_of(fun, a, wrt)

    def backward(*args: Any) -> Any:
        return both(*args)[1:]

    if not second:
        value, *claimed = read(trace(both, [g_shape, *a.shapes]), [g, *a.tensors])
        yield from gradients(claimed, out, g, a, wrt)
        yield ("the value that jax.vjp gives", value, out)
        return
    grads = [pull([out], [g], a.symbols[w], a.tensor(w)) for w in wrt]
    yield from _forward_over(backward, grads, g, g_shape, a, wrt)
    yield from _reverse_over(backward, grads, g, g_shape, a, wrt)


def gradients(
    claimed: Sequence[Tensor], out: Tensor, g: Tensor, a: Arguments, wrt: Sequence[str]
) -> Claims:
    """Gradients as claimed beside those of the term ``out`` under the cotangent g."""
    return [
        (f"the gradient to {w}", c, pull([out], [g], a.symbols[w], a.tensor(w)))
        for w, c in zip(wrt, claimed, strict=True)
    ]


def _forward_over(
    backward: Function, grads: list[Tensor], g: Tensor, g_shape: Any, a: Arguments, wrt: Any
) -> Claims:
    tangents = [new_tensor(extra(a, f"{w}_dot"), a.tensor(w)) for w in wrt]

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
    seconds = [new_tensor(extra(a, f"{w}_bar"), a.tensor(w)) for w in wrt]

    def reverse(h: Sequence[Any], g: Any, *rest: Any) -> Any:
        primals = tuple(rest[a.names.index(w)] for w in wrt)

        def of(g: Any, *moving: Any) -> Any:
            return only(lambda *args: backward(g, *args), a, wrt)(moving, rest)

        return jax.vjp(of, g, *primals)[1](tuple(h))

    jaxpr = trace(reverse, [[a.shape(w) for w in wrt], g_shape, *a.shapes])
    claimed = read(jaxpr, [*seconds, g, *a.tensors])
    targets = [("g", extra(a, "g"), g), *((w, a.symbols[w], a.tensor(w)) for w in wrt)]
    return [
        (f"reverse over the gradient, to {name}", c, pull(grads, seconds, symbol, like))
        for c, (name, symbol, like) in zip(claimed, targets, strict=True)
    ]


def extra(a: Arguments, name: str) -> Symbol:
    """A cotangent or a tangent, by a name that no argument has."""
    while name in a.names:
        name += "_"
    return Symbol(name, "real")


def value_of(fun: Function, a: Arguments, reference: Function | None) -> Tensor:
    """The function's value, which must be the reference's, as the reference writes it."""
    out = read_one(fun, a)
    if reference is not None:
        wanted = read_one(reference, a)
        require([("the value", out, wanted)])
        out = wanted
    finite("the value", out)
    return out


def read_one(fun: Function, a: Arguments) -> Tensor:
    """The one output of a function, as a term."""
    outs = read(trace(fun, a.shapes), a.tensors)
    if len(outs) != 1:
        raise Refused(f"a function of {len(outs)} outputs; give one at a time")
    return outs[0]


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
        residual = usual(claimed.value - wanted.value)
        if not vanishes(residual):
            raise Differs(what, residual)
