"""Makes terms from the specs of arguments, and jaxprs at symbolic sizes from functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.export
import numpy as np
from jax.extend import core

from .._jax_internals import without_dead_code
from .._normal_form import ONE, ZERO, Poly, Refused, Symbol, entry
from .read import assume, dimension, least_sizes
from .spec import Spec
from .tensor import Tensor, axes
from .tensor import new_tensor as new_tensor


@dataclass(frozen=True)
class Arguments:
    """The arguments of a proof, as shapes for JAX and as terms."""

    names: tuple[str, ...]
    shapes: tuple[jax.ShapeDtypeStruct, ...]
    tensors: tuple[Tensor, ...]
    symbols: Mapping[str, Symbol]

    def tensor(self, name: str) -> Tensor:
        """Returns the array of terms of one argument."""
        return self.tensors[self.names.index(name)]

    def shape(self, name: str) -> jax.ShapeDtypeStruct:
        """Returns the symbolic shape and the dtype of one argument."""
        return self.shapes[self.names.index(name)]


def arguments(specs: Mapping[str, Spec]) -> Arguments:
    """Returns the arguments that these specs describe."""
    names = [d for spec in specs.values() for d in (*spec.dims, spec.classes or "1")]
    scope = jax.export.SymbolicScope([*_products(names), *_least(names)])
    known = {d: _size(d, scope) for d in names}
    shapes, tensors = [], []
    symbols: dict[str, Symbol] = {}
    for name, spec in specs.items():
        shape = tuple(known[d] for d in spec.dims)
        dtype = _canonical(spec.dtype)
        if dtype != spec.dtype and np.issubdtype(dtype, np.floating):
            raise Refused(f"{name} is {spec.dtype}, which is {dtype} without jax_enable_x64")
        shapes.append(jax.ShapeDtypeStruct(shape, dtype))
        terms = tuple(dimension(d) for d in shape)
        dim = dimension(known[spec.classes]) if spec.classes else None
        symbols[name] = _symbol(name, spec, dim, specs, symbols)
        factors = [dimension(_size(f, scope)) for f in (spec.classes or "1").split("*")]
        value = _value(symbols[name], terms, factors)
        if spec.ignore is not None:
            here = entry(_kept(name, specs), *axes(terms))
            value = here * value + (1 - here) * spec.ignore
        tensors.append(Tensor(terms, value, dtype=np.dtype(spec.dtype)))
    return Arguments(tuple(specs), tuple(shapes), tuple(tensors), symbols)


def _canonical(dtype: Any) -> np.dtype:
    """Returns the dtype that JAX gives an array, which depends on ``jax_enable_x64``."""
    return np.dtype(jax.dtypes.canonicalize_dtype(dtype))


def _products(dims: Sequence[str]) -> list[str]:
    """Returns constraints for JAX's symbolic sizes: a product is at least each of its factors."""
    products = sorted({d for d in dims if "*" in d})
    return [f"{d} >= {f}" for d in products for f in sorted(set(d.split("*")))]


def _least(dims: Sequence[str]) -> list[str]:
    """Returns the least sizes as constraints, which JAX needs where a slice may be empty."""
    named = {f for d in dims for f in d.split("*") if not f.isdigit()}
    return [f"{d} >= {n}" for d, n in sorted(least_sizes.get().items()) if n > 1 and d in named]


def _size(name: str, scope: Any) -> Any:
    return int(name) if name.isdigit() else jax.export.symbolic_shape(name, scope=scope)[0]


def _value(symbol: Symbol, shape: tuple[Poly, ...], factors: list[Poly]) -> Poly:
    """Returns the entries of an argument as a term.

    A label among ``m*k`` classes is ``q k + r`` with q below m and r below k. ``factors`` are
    those of the number of classes, here m and k. Entries of a permutation are not written as such
    sums, so that they stay entries of a permutation.
    """
    if symbol.sort != "index":
        made = entry(symbol, *axes(shape))
        return made if symbol.keeps is None or shape[-1] != ONE else _one_class(symbol, shape)
    if len(factors) == 1 or symbol.exponent:
        return entry(symbol, *axes(shape)) if symbol.dim != ONE else ZERO
    value = ZERO
    for i, f in enumerate(factors):
        digit = Symbol(f"{symbol.name}.{i}", "index", f)
        value = value * f + entry(digit, *axes(shape))
    return value


def _one_class(mask: Symbol, shape: tuple[Poly, ...]) -> Poly:
    """Returns a mask of one class, which is true in each row whose label is not ignored."""
    if mask.kept is None:
        return ONE
    row = entry(mask.kept, *axes(shape)[:-1])
    return row + (1 - row) * entry(mask, *axes(shape))


def _symbol(
    name: str,
    spec: Spec,
    dim: Poly | None,
    specs: Mapping[str, Spec],
    symbols: Mapping[str, Symbol],
) -> Symbol:
    if spec.keeps is None:
        return Symbol(name, spec.sort, dim, exponent=int(spec.permutes))
    other = specs.get(spec.keeps)
    if spec.keeps not in symbols or other is None or spec.dims != (*other.dims, other.classes):
        raise Refused(f"{name} keeps {spec.keeps}: give the labels first, and its shape")
    kept = None if other.ignore is None else _kept(spec.keeps, specs)
    return Symbol(name, spec.sort, dim, symbols[spec.keeps], kept)


def _kept(labels: str, specs: Mapping[str, Spec]) -> Symbol:
    """Returns a boolean symbol, with an unused name, that says which labels are not ignored."""
    name = f"{labels}_kept"
    while name in specs:
        name += "_"
    return Symbol(name, "boolean")


def note(specs: Mapping[str, Spec]) -> None:
    """Notes the assumptions that specs make about arguments."""
    dtypes = sorted({str(_canonical(spec.dtype)) for spec in specs.values()})
    assume(f"for arguments of {', '.join(dtypes)}")
    least = least_sizes.get()
    for d in sorted({d for s in specs.values() for d in s.names}):
        assume(f"{d} is at least {least.get(d, 1)}")
    for name, spec in specs.items():
        if spec.permutes:
            assume(f"{name} is a permutation: it holds each integer in [0, {spec.classes}) once")
        elif spec.classes is not None:
            also = "" if spec.ignore is None else f", or is {spec.ignore}"
            assume(f"{name} is in [0, {spec.classes}){also}")
        if spec.keeps is not None:
            assume(f"{name} is true at the class of each label in {spec.keeps}")
        words = {
            "positive": "is positive",
            "nonnegative": "is not negative",
            "unit": "is in (0, 1)",
        }
        if spec.sort in words:
            assume(f"{name} {words[spec.sort]}")


def trace(function: Callable[..., Any], shapes: Sequence[Any]) -> core.ClosedJaxpr:
    """Returns the jaxpr of a function, without equations that no output depends on.

    The tangents that ``stop_gradient`` drops are an example.
    """
    try:
        traced = jax.make_jaxpr(function)(*shapes)
    except Refused:
        raise
    except Exception as error:  # any error of the user's function is the reason
        line = str(error).strip().split("\n")[0]
        if type(error).__name__ == "InconclusiveDimensionOperation":
            line += " Sizes have no numbers here; one to be divided by c can be named as 'm*c'."
        raise Refused(f"tracing at symbolic sizes: {type(error).__name__}: {line}") from error
    return without_dead_code(traced)


def restricted(
    fun: Callable[..., Any], args: Sequence[Any], places: Sequence[int]
) -> tuple[Callable[..., list[Any]], list[Any]]:
    """Returns a function of the arguments at ``places`` only, and these arguments.

    The function keeps all other arguments, and returns the leaves of what ``fun`` returns.
    """

    def of(*moving: Any) -> list[Any]:
        full = list(args)
        for place, x in zip(places, moving, strict=True):
            full[place] = x
        return jax.tree.leaves(fun(*full))

    return of, [args[place] for place in places]
