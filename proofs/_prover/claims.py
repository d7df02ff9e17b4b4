"""Makes claims, such as that what JAX will run is the derivative of a function's value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from .._normal_form import Poly, Refused, Symbol, usual
from .layers import equal, through, without_names
from .linear import pull, push
from .read import assume, read
from .tensor import Tensor, new_tensor
from .trace import Arguments, restricted, trace
from .words import few_terms, numbered

Function = Callable[..., Any]
Claims = list[tuple[str, Tensor, Tensor]]  # name, array as claimed, array as it should be


class Differs(Exception):
    """Raised if two terms are not shown to be equal, with the claimed term and the difference."""

    def __init__(self, what: str, claimed: Poly, residual: Poly):
        self.what, self.claimed, self.residual = what, claimed, residual
        text = str(residual)
        super().__init__(f"{what}: {text if len(text) < 600 else text[:600] + ' ...'} is left over")


# ------------------------------------------------------------------ what JAX will run


def vjp_of(fun: Function, a: Arguments, wrt: Sequence[str]) -> Function:
    """Returns the function ``(g, *args) -> (values, *cotangents)`` that calls ``jax.vjp``."""
    places = [a.names.index(w) for w in wrt]

    def both(g: Any, *args: Any) -> Any:
        of, moving = restricted(fun, args, places)
        values, pullback = jax.vjp(of, *moving)
        return values, *pullback(jax.tree.leaves(g))

    return both


def jvp_of(fun: Function, a: Arguments, wrt: Sequence[str]) -> Function:
    """Returns the function ``(tangents, *args) -> (values, their tangents)``, by ``jax.jvp``."""
    places = [a.names.index(w) for w in wrt]

    def both(tangents: Any, *args: Any) -> Any:
        of, moving = restricted(fun, args, places)
        return jax.jvp(of, moving, list(tangents))

    return both


# ------------------------------------------------------------------ claims


def value_claims(f: Function, g: Function, a: Arguments) -> Claims:
    """Returns the claims that two functions have the same values."""
    ones, others = _both_read(f, g, a)
    for one, other in zip(ones, others, strict=True):
        if one.bad.terms and one.bad == other.bad:
            raise Refused(f"both may be NaN or +inf, which are not told apart, where {one.bad}")
    return _beside("the value", ones, others)


def vjp_claims(
    fun: Function,
    a: Arguments,
    wrt: Sequence[str],
    reference: Function | None = None,
    surrogate: Function | None = None,
) -> Claims:
    """Returns the claims that ``jax.vjp`` gives the values of the reference and their gradients.

    Without a reference, the terms of ``fun`` itself are differentiated. With a surrogate, the
    gradients are those of the surrogate's terms.
    """
    values = _values(fun, a, reference)
    outs = _differentiated(surrogate, a, values)
    both, b = _of_cotangents(fun, a, wrt, outs)
    many = len(outs)
    # The layers' cotangents need names before ``read``, which looks for equal arrays with names.
    outs, cotangents = through(outs, b.tensors[:many])
    found = read(trace(both, b.shapes), b.tensors)
    return [
        *_gradient_claims(found[many:], outs, cotangents, a, wrt),
        *_beside("the value that jax.vjp gives", found[:many], values),
    ]


def jvp_claims(
    fun: Function, a: Arguments, wrt: Sequence[str], reference: Function | None
) -> Claims:
    """Returns the claims that ``jax.jvp`` gives the values of the reference and their tangents."""
    without_names("forward mode")
    outs = _values(fun, a, reference)
    many = len(outs)
    found, tangents = _pushed(jvp_of(fun, a, wrt), a, wrt)
    return [
        *_beside("the tangent", found[many:], [push(out, tangents) for out in outs]),
        *_beside("the value that jax.jvp gives", found[:many], outs),
    ]


def second_order_claims(
    fun: Function,
    a: Arguments,
    wrt: Sequence[str],
    reference: Function | None = None,
    surrogate: Function | None = None,
) -> Claims:
    """Returns the claims that forward and reverse mode over the gradient give its derivative."""
    outs = _differentiated(surrogate, a, _values(fun, a, reference))
    without_names("second orders")
    both, b = _of_cotangents(fun, a, wrt, outs)
    grads = [pull(outs, b.tensors[: len(outs)], a.symbols[w], a.tensor(w)) for w in wrt]

    def gradient(*args: Any) -> Any:
        return both(*args)[1:]

    forward, tangents = _pushed(lambda *args: jvp_of(gradient, b, wrt)(*args)[1], b, wrt)
    wanted = [push(grad, tangents) for grad in grads]
    by = *b.names[: len(outs)], *wrt
    h = [new_tensor(_extra(b, f"{w}_bar"), a.tensor(w)) for w in wrt]
    h_shape = tuple(a.shape(w) for w in wrt)
    reverse = trace(lambda *args: vjp_of(gradient, b, by)(*args)[1:], [h_shape, *b.shapes])
    pulled = [pull(grads, h, b.symbols[name], b.tensor(name)) for name in by]
    to_wrt = (f"forward over the gradient to {w}" for w in wrt)
    to_all = (f"reverse over the gradient, to {name}" for name in by)
    return [
        *zip(to_wrt, forward, wanted, strict=True),
        *zip(to_all, read(reverse, [*h, *b.tensors]), pulled, strict=True),
    ]


def _beside(what: str, claimed: Sequence[Tensor], wanted: Sequence[Tensor]) -> Claims:
    """Returns a claim for each output, named ``what`` and numbered if there are several."""
    return list(zip(numbered(what, claimed), claimed, wanted, strict=True))


def _gradient_claims(
    claimed: Sequence[Tensor],
    outs: Sequence[Tensor],
    g: Sequence[Tensor],
    a: Arguments,
    wrt: Sequence[str],
) -> Claims:
    """Returns the claims that these gradients are those of ``outs`` for the cotangents ``g``."""
    claims = []
    for w, c in zip(wrt, claimed, strict=True):
        try:
            wanted = pull(outs, g, a.symbols[w], a.tensor(w))
        except Refused as error:
            raise type(error)(f"{error}; the backward is {few_terms(c.value)}") from error
        claims.append((f"the gradient to {w}", c, wanted))
    return claims


def _of_cotangents(
    fun: Function, a: Arguments, wrt: Sequence[str], outs: Sequence[Tensor]
) -> tuple[Function, Arguments]:
    """Returns ``vjp_of`` with each cotangent as an argument of its own, and all its arguments.

    They are a cotangent for each output, and then the arguments of ``fun``.
    """
    both = vjp_of(fun, a, wrt)
    shapes = jax.tree.leaves(jax.eval_shape(fun, *a.shapes))
    g, many = _cotangents(a, outs), len(outs)
    symbols = {symbol.name: symbol for symbol in g}
    b = Arguments(
        (*symbols, *a.names),
        (*shapes, *a.shapes),
        (*g.values(), *a.tensors),
        {**symbols, **a.symbols},
    )
    return lambda *args: both(args[:many], *args[many:]), b


def _cotangents(a: Arguments, outs: Sequence[Tensor]) -> dict[Symbol, Tensor]:
    """Returns the cotangents of the outputs by their symbols, which are g or g0, g1, ..."""
    names = ["g"] if len(outs) == 1 else [f"g{i}" for i in range(len(outs))]
    symbols = [_extra(a, name) for name in names]
    return {s: new_tensor(s, out) for s, out in zip(symbols, outs, strict=True)}


def _pushed(
    of: Function, a: Arguments, wrt: Sequence[str]
) -> tuple[list[Tensor], list[tuple[Symbol, Tensor]]]:
    """Returns the outputs of a function of tangents and arguments, and the tangents that it got.

    Each tangent is paired with the symbol of its argument.
    """
    tangents = [new_tensor(_extra(a, f"{w}_dot"), a.tensor(w)) for w in wrt]
    jaxpr = trace(of, [[a.shape(w) for w in wrt], *a.shapes])
    found = read(jaxpr, [*tangents, *a.tensors])
    return found, [(a.symbols[w], t) for w, t in zip(wrt, tangents, strict=True)]


def _extra(a: Arguments, name: str) -> Symbol:
    """Returns the symbol of a cotangent or tangent, with a name that no argument has."""
    while name in a.names:
        name += "_"
    return Symbol(name, "real")


# ------------------------------------------------------------------ values


def _values(fun: Function, a: Arguments, reference: Function | None) -> list[Tensor]:
    """Returns the values of a function as terms, and refuses any that may be infinite or NaN.

    If there is a reference, the values must equal the reference's, whose terms are returned.
    """
    if reference is None:
        outs = _outputs(fun, a)
    else:
        claimed, outs = _both_read(fun, reference, a)
        require(_beside("the value", claimed, outs))
    _finite("the value", *outs)
    return outs


def _both_read(f: Function, g: Function, a: Arguments) -> tuple[list[Tensor], list[Tensor]]:
    """Returns the outputs of two functions, and refuses functions of unequally many outputs."""
    ones, others = _outputs(f, a), _outputs(g, a)
    if len(ones) != len(others):
        raise Refused(f"a function of {len(ones)} outputs beside one of {len(others)}")
    return ones, others


def _differentiated(surrogate: Function | None, a: Arguments, values: list[Tensor]) -> list[Tensor]:
    """Returns what the backward pass is meant to differentiate: the values, or a surrogate's."""
    if surrogate is None:
        return values
    outs = _values(surrogate, a, None)
    if [t.shape for t in outs] != [t.shape for t in values]:
        raise Refused("a surrogate whose outputs have other shapes than those of the function")
    name = getattr(surrogate, "__name__", "surrogate")
    assume(f"the backward pass is meant to be that of the surrogate, {name}, not of the value")
    return outs


def _outputs(fun: Function, a: Arguments) -> list[Tensor]:
    """Returns the outputs of a function, as terms."""
    outs = read(trace(fun, a.shapes), a.tensors)
    for t in outs if len(outs) > 1 else ():
        if not np.issubdtype(t.dtype, np.floating):
            raise Refused(
                f"an output of {np.dtype(t.dtype)} beside others: leave it out, for only arrays of "
                "floats have a derivative"
            )
    return outs


def _finite(what: str, *outs: Tensor) -> None:
    """Refuses outputs that may be infinite or NaN."""
    for name, t, _ in _beside(what, outs, outs):
        for flag, number in ((t.lowest, "-inf"), (t.bad, "NaN or +inf")):
            if flag.terms:
                raise Refused(f"{name} may be {number}, where {flag}")


def require(claims: Claims) -> None:
    """Raises an error unless all claims are proved.

    The error is ``Differs`` if terms are not shown to be equal. It is ``Refused`` if shapes differ,
    or if only one of two arrays may be infinite or NaN somewhere.
    """
    for what, claimed, wanted in claims:
        if claimed.shape != wanted.shape:
            raise Refused(f"{what} has the shape {claimed.shape}, wanted {wanted.shape}")
        for flags in ((claimed.lowest, wanted.lowest), (claimed.bad, wanted.bad)):
            if (flag := usual(flags[0] - flags[1])).terms:
                raise Refused(f"{what} may be infinite or NaN, where {flag}")
        if not equal(claimed.value, wanted.value):
            raise Differs(what, claimed.value, usual(claimed.value - wanted.value))
