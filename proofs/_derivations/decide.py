"""Decides whether two expressions are equal, for every number of classes.

``equal`` unfolds the definitions, carries out the derivatives, brings the difference to a
normal form and asks whether it is zero. The normal form is a rational function of atoms:
entries z(i), symbols, exp of one monomial, log and powers of what is positive, Kronecker
deltas, and sums. What makes it sound, rule by rule:

- sums: linear; a factor free of the index moves out; ``sum_j 1 = k``; ``sum_j delta(i, j)
  f(j) = f(i)`` for i in the range; ``sum_{j != i} f(j) = sum_j f(j) - f(i)``; a sum over
  S shards of C is one over S and one over C, with the index s C + c. Binders are fresh at
  each substitution and named by depth at the end, so that equal sums are the same atom.
- exp(a + b) = exp(a) exp(b), exp(log a) = a; log(a b) = log a + log b, log(a^n) = n log a
  and a^(x + y) = a^x a^y for a, b that are *shown* positive, else the step is undecided.
- a divisor must be shown not to be zero.
- a delta between free indices: both cases are decided, i = j and i != j.
- hypotheses such as sum_j t(j) = 1 replace that atom.

Zero is decided in the field of rational functions over the atoms, exactly. Different
atoms may still be related, so "not zero" means undecided, and undecided is a failure.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import sympy as sp
from sympy.core.function import AppliedUndef

from .normal import Undecided, difference, is_binder, normal, positive, sign
from .terms import Index, Partial, Total, instantiate, subterms


@dataclass(frozen=True)
class Context:
    """The facts that a decision may use."""

    definitions: tuple[tuple[sp.Expr, sp.Expr], ...] = ()
    """Heads, y(a) with an Index a or a symbol, and what they stand for."""
    equations: tuple[tuple[sp.Expr, sp.Expr], ...] = ()
    """A sum and its value."""
    positive: tuple[sp.Expr, ...] = ()
    """Sums over the other classes, which are not empty."""
    same: tuple[tuple[sp.Expr, sp.Expr], ...] = ()
    distinct: tuple[tuple[sp.Expr, sp.Expr], ...] = ()
    parameters: tuple[tuple[sp.Expr, sp.Expr], ...] = ()
    """A symbol and what runs through its values: put in once derivatives are carried out."""
    known: list[sp.Expr] = field(default_factory=list)  # normal forms of ``positive``

    def prepared(self) -> Context:
        """Adds the normal forms of what is known to be positive."""
        for e in self.positive:
            whole = normal(unfold(Total(e.body, e.index), self), self.known)
            if not (isinstance(e, Total) and positive(whole, self.known)):
                raise Undecided(f"{e} is not a sum of positive terms")
            self.known.append(normal(unfold(e, self), self.known))
        return self


def equal(a: sp.Expr, b: sp.Expr, context: Context) -> None:
    """Returns if the two are equal; raises ``Undecided`` if that is not shown."""
    for left, right in context.same:
        a, b = (instantiate(e, {right: left}) for e in (a, b))
    difference = carried_out(unfold(a - b, context), context)
    _zero(instantiate(difference, dict(context.parameters)), context)


def nonnegative(e: sp.Expr, context: Context, strictly: bool = False) -> None:
    """Returns if ``e`` is shown to be at least 0; raises ``Undecided`` otherwise."""
    plain = instantiate(carried_out(unfold(e, context), context), dict(context.parameters))
    if not sign(plain, context.known, strictly):
        raise Undecided(f"that {e} is {'positive' if strictly else 'not negative'} is not shown")


def unfold(e: sp.Expr, context: Context) -> sp.Expr:
    """Replaces the symbols that definitions introduce."""
    by_name = {(h.func if h.args else h): (h, body) for h, body in context.definitions}
    if e in by_name:
        return unfold(by_name[e][1], context)
    if isinstance(e, AppliedUndef) and e.func in by_name:
        head, body = by_name[e.func]
        args = (unfold(a, context) for a in e.args)
        return unfold(instantiate(body, dict(zip(head.args, args, strict=True))), context)
    if isinstance(e, Partial) and (e.by in by_name or e.by.func in by_name):
        raise Undecided(f"a derivative by {e.by}, which a definition stands for")
    if not e.args:
        return e
    return e.func(*(unfold(a, context) for a in e.args))


def carried_out(e: sp.Expr, context: Context) -> sp.Expr:
    """Carries out the derivatives."""
    if not e.args:
        return e
    if isinstance(e, Partial):
        return derivative(carried_out(e.body, context), e.by)
    return e.func(*(carried_out(a, context) for a in e.args))


def derivative(e: sp.Expr, by: sp.Expr) -> sp.Expr:
    """Differentiates by the rules of calculus, term by term; a sum first gets a new binder."""
    family = by.func if by.args else by
    if not any(s == by or s.func == family for s in subterms(e)):
        return sp.Integer(0)
    if e == by or (by.args and e.func == by.func):
        return sp.Mul(*(sp.KroneckerDelta(x, y) for x, y in zip(e.args, by.args, strict=True)))
    if isinstance(e, sp.Add):
        return sp.Add(*(derivative(a, by) for a in e.args))
    if isinstance(e, sp.Mul):
        moved = (e.args[:n] + (derivative(a, by),) + e.args[n + 1 :] for n, a in enumerate(e.args))
        return sp.Add(*(sp.Mul(*factors) for factors in moved))
    if isinstance(e, sp.exp | sp.log | sp.tanh | sp.cosh):
        return e.fdiff(1) * derivative(e.args[0], by)
    if isinstance(e, sp.Pow):
        base, exponent = e.args
        by_base = exponent * base ** (exponent - 1) * derivative(base, by)
        return by_base + e * sp.log(base) * derivative(exponent, by)
    if isinstance(e, Total):
        e = instantiate(e, {})
        return Total(derivative(e.body, by), e.index, *e.others)
    raise Undecided(f"the derivative of {e.func.__name__} is not read")


def _zero(e: sp.Expr, c: Context) -> None:
    for i, j in c.distinct:
        e = instantiate(e, {sp.KroneckerDelta(i, j): sp.Integer(0)})
    n = normal(e, c.known)
    values = {normal(unfold(lhs, c), c.known): rhs for lhs, rhs in c.equations}
    if not all(isinstance(lhs, Total) for lhs in values):
        raise Undecided("an equation that is not about a sum")
    n = difference(n.xreplace(values))
    if n == 0:
        return
    deltas = sorted((s for s in subterms(n) if _between_free(s)), key=sp.default_sort_key)
    if not deltas:
        raise Undecided(f"left over: {n}")
    i, j = deltas[0].args
    if (i, j) in c.distinct or (j, i) in c.distinct:
        _zero(instantiate(n, {deltas[0]: sp.Integer(0)}), c)
        return
    j, i = (i, j) if isinstance(i, Index) else (j, i)
    _zero(instantiate(n, {j: i}), c)
    _zero(instantiate(n, {deltas[0]: sp.Integer(0)}), c)


def _between_free(e: sp.Basic) -> bool:
    if not isinstance(e, sp.KroneckerDelta) or not any(isinstance(a, Index) for a in e.args):
        return False
    return not any(is_binder(s) for a in e.args for s in subterms(a))
