"""Makes mutants of a jaxpr: each has one operation changed, at any depth.

The rules are the ways in which derivations go wrong: another operator, arguments swapped, a
constant changed, a term or factor dropped, an operand replaced by another of its type,
another axis or dimension, branches of a select or cond swapped.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.extend import core

_OPERATORS: dict[str, tuple[Callable[..., Any], ...]] = {
    "add": (lax.sub, lax.mul), "add_any": (lax.sub,), "sub": (lax.add, lax.mul),
    "mul": (lax.add, lax.div), "div": (lax.mul, lax.sub), "max": (lax.min, lax.add),
    "min": (lax.max,), "pow": (lax.mul,), "neg": (lax.abs, lax.exp),
    "exp": (lax.expm1, lax.log1p), "expm1": (lax.exp,), "log": (lax.log1p, lax.exp),
    "log1p": (lax.log, lax.expm1), "tanh": (lax.logistic,), "logistic": (lax.tanh,),
    "abs": (lax.neg, lax.square), "square": (lax.abs, lax.neg), "floor": (lax.ceil,),
    "ceil": (lax.floor,), "eq": (lax.ne, lax.ge), "ne": (lax.eq,), "lt": (lax.le, lax.ge),
    "le": (lax.lt, lax.gt), "gt": (lax.ge, lax.le), "ge": (lax.gt, lax.lt, lax.eq),
    "and": (lax.bitwise_or,), "or": (lax.bitwise_and,), "not": (lambda x: x | True,),
    "is_finite": (lambda x: x < 0,),
}  # fmt: skip
_ORDERED = {"sub", "div", "pow", "lt", "le", "gt", "ge"}
_DROPPABLE = {"add", "add_any", "sub", "mul", "div", "max", "min", "neg", "abs", "square", "and",
              "or", "exp", "stop_gradient", "pow"}  # fmt: skip
_REDUCTIONS = {
    "reduce_sum": ("reduce_max",), "reduce_max": ("reduce_min", "reduce_sum"),
    "psum": ("reduce_max",), "pmax": ("reduce_sum",),
    "reduce_and": ("reduce_or",), "reduce_or": ("reduce_and",),
}  # fmt: skip


@dataclass(frozen=True)
class Change:
    """One change of one equation."""

    rule: str
    what: str
    equations: tuple[core.JaxprEqn, ...]  # which replace the old one


@dataclass(frozen=True)
class Mutant:
    """A jaxpr with one change."""

    rule: str
    what: str  # the equation's place and what became of it
    jaxpr: core.ClosedJaxpr


def mutants(jaxpr: core.ClosedJaxpr) -> Iterator[Mutant]:
    """Yields all mutants of a jaxpr, in a fixed order; some may not type check."""
    for rule, what, inner in _of_jaxpr(jaxpr.jaxpr):
        yield Mutant(rule, what, core.ClosedJaxpr(inner, jaxpr.consts))
    for i, const in enumerate(jaxpr.consts):
        for change, value in _constants(np.asarray(const)):
            consts = [*jaxpr.consts[:i], value, *jaxpr.consts[i + 1 :]]
            yield Mutant("constant", f"const {i}: {change}", core.ClosedJaxpr(jaxpr.jaxpr, consts))


def well_typed(mutant: core.ClosedJaxpr, original: core.ClosedJaxpr) -> bool:
    """Returns whether a mutant type checks and has the output types of the original."""
    if [str(a) for a in mutant.out_avals] != [str(a) for a in original.out_avals]:
        return False
    try:
        core.check_jaxpr(mutant.jaxpr)
    except Exception:  # the rules of primitives may raise anything
        return False
    return True


def _of_jaxpr(
    jaxpr: core.Jaxpr, read: Sequence[bool] | None = None
) -> Iterator[tuple[str, str, core.Jaxpr]]:
    """Yields the rule, the place and the jaxpr of each change.

    ``read`` says which outputs are used. Equations that only other outputs need are not changed.
    """
    outs = [v for i, v in enumerate(jaxpr.outvars) if read is None or read[i]]
    wanted = _wanted(jaxpr, outs)
    scope: list[Any] = [*jaxpr.constvars, *jaxpr.invars]
    for i, equation in enumerate(jaxpr.eqns):
        alive = [v in wanted for v in equation.outvars]
        if any(alive):
            for change in _of_equation(equation, scope, alive):
                eqns = [*jaxpr.eqns[:i], *change.equations, *jaxpr.eqns[i + 1 :]]
                place = f"{i}:{equation.primitive.name}"
                yield change.rule, f"{place} {change.what}", jaxpr.replace(eqns=eqns)
        scope += [v for v in equation.outvars if not isinstance(v, core.DropVar)]


def _wanted(jaxpr: core.Jaxpr, outs: Sequence[Any]) -> set[Any]:
    """Returns the variables that these outputs depend on."""
    wanted = {v for v in outs if isinstance(v, core.Var)}
    for equation in reversed(jaxpr.eqns):
        if wanted & set(equation.outvars):
            wanted |= {v for v in equation.invars if isinstance(v, core.Var)}
    return wanted


def _of_equation(
    equation: core.JaxprEqn, scope: list[Any], alive: Sequence[bool]
) -> Iterator[Change]:
    yield from _operators(equation)
    yield from _swaps(equation)
    yield from _literals(equation)
    yield from _dropped(equation)
    yield from _replaced(equation, scope)
    yield from _axes(equation)
    yield from _inside(equation, alive)


def _made(function: Callable[..., Any], equation: core.JaxprEqn) -> list[core.JaxprEqn]:
    """Returns [the equation with the primitive of ``function``], or [] if the types do not fit."""
    avals: list[Any] = [a.aval for a in equation.invars]
    try:
        traced = jax.make_jaxpr(function)(*(jax.ShapeDtypeStruct(a.shape, a.dtype) for a in avals))
    except Exception:  # the function does not take these operands
        return []
    if len(traced.eqns) != 1 or str(traced.out_avals[0]) != str(equation.outvars[0].aval):
        return []
    (new,) = traced.eqns
    wires = dict(zip(traced.jaxpr.invars, equation.invars, strict=True))
    invars = [a if isinstance(a, core.Literal) else wires[a] for a in new.invars]
    return [new.replace(invars=invars, outvars=equation.outvars)]


def _operators(equation: core.JaxprEqn) -> Iterator[Change]:
    name = equation.primitive.name
    for function in _OPERATORS.get(name, ()):
        for made in _made(function, equation):
            yield Change("operator", f"became {made.primitive.name}", (made,))
    for other in _REDUCTIONS.get(name, ()):
        reduce = functools.partial(getattr(lax, other), axes=equation.params["axes"])
        for made in _made(reduce, equation):
            yield Change("operator", f"became {other}", (made,))
    if name == "integer_pow":
        for step in (-1, 1):
            params = {**equation.params, "y": equation.params["y"] + step}
            yield Change("constant", f"exponent {step:+d}", (equation.replace(params=params),))


def _swaps(equation: core.JaxprEqn) -> Iterator[Change]:
    name, invars = equation.primitive.name, equation.invars
    if name in _ORDERED:
        yield Change("arguments", "swapped", (equation.replace(invars=invars[::-1]),))
    if name == "select_n" and len(invars) == 3:
        swapped = [invars[0], invars[2], invars[1]]
        yield Change("branches", "swapped", (equation.replace(invars=swapped),))
        for i in (1, 2):
            both = [invars[0], invars[i], invars[i]]
            yield Change("branches", f"both the {i}.", (equation.replace(invars=both),))
    if name == "cond":
        branches = equation.params["branches"]
        for i in range(len(branches)):
            params = {**equation.params, "branches": tuple([branches[i]] * len(branches))}
            yield Change("branches", f"all the {i}.", (equation.replace(params=params),))


def _literals(equation: core.JaxprEqn) -> Iterator[Change]:
    for i, atom in enumerate(equation.invars):
        if isinstance(atom, core.Literal):
            for what, value in _constants(np.asarray(atom.val)):
                changed = _with_operand(equation, i, core.Literal(value, atom.aval))
                yield Change("constant", f"operand {i}: {what}", (changed,))


def _with_operand(equation: core.JaxprEqn, i: int, atom: Any) -> core.JaxprEqn:
    return equation.replace(invars=[*equation.invars[:i], atom, *equation.invars[i + 1 :]])


def _constants(value: np.ndarray) -> list[tuple[str, Any]]:
    if value.dtype == np.bool_:
        return [("negated", ~value)]
    if value.dtype.kind not in "if" or value.ndim:
        return []
    with np.errstate(over="ignore"):
        changed = {"plus 1": value + 1, "doubled": value * 2, "negated": -value}
    return [
        (what, np.asarray(new, value.dtype)[()])
        for what, new in changed.items()
        if np.isfinite(new) and new != value
    ]


def _dropped(equation: core.JaxprEqn) -> Iterator[Change]:
    if equation.primitive.name not in _DROPPABLE:
        return
    for i, atom in enumerate(equation.invars):
        if str(atom.aval) == str(equation.outvars[0].aval) or isinstance(atom, core.Literal):
            for made in _identity(atom, equation):
                yield Change("term", f"became its operand {i}", (made,))


def _identity(atom: Any, equation: core.JaxprEqn) -> list[core.JaxprEqn]:
    """Returns [``out = stop_gradient(atom)``], which every reader knows, or [] if types differ."""
    (out,) = equation.outvars
    kind: Any = out.aval
    if getattr(atom.aval, "weak_type", False) != kind.weak_type or atom.aval.shape != kind.shape:
        return []
    spec = jax.ShapeDtypeStruct(kind.shape, kind.dtype)
    stops = jax.make_jaxpr(lax.stop_gradient)(spec).eqns
    return [stop.replace(invars=[atom], outvars=[out]) for stop in stops]


def _replaced(equation: core.JaxprEqn, scope: list[Any]) -> Iterator[Change]:
    for i, atom in enumerate(equation.invars):
        if isinstance(atom, core.Literal):
            continue
        alike = [v for v in scope if v is not atom and str(v.aval) == str(atom.aval)]
        for other in alike[-3:] + alike[:1]:
            what = f"operand {i} became variable {scope.index(other)}"
            yield Change("operand", what, (_with_operand(equation, i, other),))


def _axes(equation: core.JaxprEqn) -> Iterator[Change]:
    params = equation.params
    for key in ("axes", "broadcast_dimensions", "dimension"):
        if key not in params or equation.primitive.name == "squeeze":
            continue
        of: Any = (equation.outvars if key != "axes" else equation.invars)[0]
        for axis in range(len(of.aval.shape)):
            new = axis if key == "dimension" else (axis,)
            if new != params[key] and (key == "dimension" or len(params[key]) == 1):
                made = equation.replace(params={**params, key: new})
                yield Change("axis", f"{key} became {new}", (made,))


def _inside(equation: core.JaxprEqn, alive: Sequence[bool]) -> Iterator[Change]:
    for key in ("jaxpr", "call_jaxpr", "fun_jaxpr", "branches"):
        value = equation.params.get(key, ())
        many = isinstance(value, tuple | list)
        parts = list(value) if many else [value]
        # A scan's carry is read by its next step.
        read = alive if equation.primitive.name != "scan" else None
        for i, part in enumerate(parts):
            for rule, what, new in _of_part(part, read):
                changed = tuple([*parts[:i], new, *parts[i + 1 :]]) if many else new
                params = {**equation.params, key: changed}
                yield Change(rule, f"> {what}", (equation.replace(params=params),))


def _of_part(part: Any, read: Sequence[bool] | None) -> Iterator[tuple[str, str, Any]]:
    if isinstance(part, core.ClosedJaxpr):
        for rule, what, inner in _of_jaxpr(part.jaxpr, read):
            yield rule, what, core.ClosedJaxpr(inner, part.consts)
    elif isinstance(part, core.Jaxpr):
        yield from _of_jaxpr(part, read)
