"""Whether two expressions are equal, for every number of classes.

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

from .terms import Blocks, Gap, Index, Partial, Total, instantiate, size_of, subterms


class Undecided(Exception):
    """Equality was not shown; the message says what stood in the way."""


class Exp(sp.Function):
    """exp in a normal form, where SymPy leaves its powers alone."""

    nargs = 1


@dataclass(frozen=True)
class Context:
    """What a decision may use."""

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
        """With the normal forms of what is known to be positive."""
        for e in self.positive:
            whole = normal(unfold(Total(e.body, e.index), self), self)
            if not (isinstance(e, Total) and positive(whole, self)):
                raise Undecided(f"{e} is not a sum of positive terms")
            self.known.append(normal(unfold(e, self), self))
        return self


def equal(a: sp.Expr, b: sp.Expr, context: Context) -> None:
    """Returns if they are equal; raises ``Undecided`` if that is not shown."""
    for left, right in context.same:
        a, b = (instantiate(e, {right: left}) for e in (a, b))
    difference = carried_out(unfold(a - b, context), context)
    _zero(instantiate(difference, dict(context.parameters)), context)


def nonnegative(e: sp.Expr, context: Context, strictly: bool = False) -> None:
    """Returns if ``e`` is seen to be at least 0, or more; else raises ``Undecided``."""
    plain = instantiate(carried_out(unfold(e, context), context), dict(context.parameters))
    if not _sign(plain, context, strictly):
        raise Undecided(f"that {e} is {'positive' if strictly else 'not negative'} is not shown")


def unfold(e: sp.Expr, context: Context) -> sp.Expr:
    """Without the symbols that definitions introduce."""
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
    """Without derivatives."""
    if not e.args:
        return e
    if isinstance(e, Partial):
        return derivative(carried_out(e.body, context), e.by)
    return e.func(*(carried_out(a, context) for a in e.args))


def derivative(e: sp.Expr, by: sp.Expr) -> sp.Expr:
    """By the rules of calculus, term by term; a sum first gets a fresh binder."""
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


def normal(e: sp.Expr, c: Context) -> sp.Expr:
    """The normal form, or ``Undecided``."""
    if not e.args or isinstance(e, AppliedUndef | sp.KroneckerDelta):
        return e
    if isinstance(e, sp.Add | sp.Mul):
        return _expanded(e.func(*(normal(a, c) for a in e.args)))
    if isinstance(e, sp.Pow):
        return _power(normal(e.base, c), normal(e.exp, c), c)
    if isinstance(e, sp.exp | Exp):
        return _exp(normal(e.args[0], c), c)
    if isinstance(e, sp.log):
        return _log(normal(e.args[0], c), c)
    if isinstance(e, Total):
        return _total(e, c)
    if isinstance(e, Gap):
        return normal(e.args[0] - 1 - sp.log(e.args[0]), c)
    if isinstance(e, sp.tanh | sp.cosh | sp.sinh):
        return normal(e.rewrite(sp.exp), c)
    if isinstance(e, sp.Max):
        return sp.Max(*(normal(a, c) for a in e.args))
    raise Undecided(f"{e.func.__name__} is not read")


def positive(e: sp.Expr, c: Context) -> bool:
    """Whether a normal form is seen to be above 0."""
    return _sign(e, c, strictly=True)


def _sign(e: sp.Expr, c: Context, strictly: bool) -> bool:
    if any(_difference(e - known) == 0 for known in c.known):
        return True
    if isinstance(e, sp.exp | Exp):
        return True
    if isinstance(e, sp.Add):
        return all(_sign(a, c, False) for a in e.args) and (
            not strictly or any(_sign(a, c, True) for a in e.args)
        )
    if isinstance(e, sp.Mul | sp.Max):
        every = all if isinstance(e, sp.Mul) else any
        return every(_sign(a, c, strictly) for a in e.args)
    if isinstance(e, sp.Pow) and e.exp.is_real:
        square = e.exp.is_even and e.exp.is_positive and not strictly
        return bool(square) or _sign(e.base, c, True)
    if isinstance(e, Total):
        if strictly and e.others:
            return any(_difference(normal(e, c) - known) == 0 for known in c.known)
        return _sign(e.body, c, strictly)
    if isinstance(e, Gap):
        return not strictly and _sign(e.args[0], c, True)
    if isinstance(e, sp.KroneckerDelta):
        return not strictly
    return bool(e.is_positive if strictly else e.is_nonnegative)


def _zero(e: sp.Expr, c: Context) -> None:
    for i, j in c.distinct:
        e = instantiate(e, {sp.KroneckerDelta(i, j): sp.Integer(0)})
    n = normal(e, c)
    values = {normal(unfold(lhs, c), c): rhs for lhs, rhs in c.equations}
    if not all(isinstance(lhs, Total) for lhs in values):
        raise Undecided("an equation that is not about a sum")
    n = _difference(n.xreplace(values))
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
    return not any(s in _BINDERS.values() for a in e.args for s in subterms(a))


def _difference(e: sp.Expr) -> sp.Expr:
    """``e``; 0 if it is zero as a rational function of its atoms."""
    plain, back = _opaque(e)
    numerator, _ = sp.fraction(sp.together(plain))
    return sp.Integer(0) if sp.expand(numerator) == 0 else plain.xreplace(back)


def _expanded(e: sp.Expr) -> sp.Expr:
    plain, back = _opaque(e)
    return _idempotent(sp.expand(plain, power_exp=False, log=False).xreplace(back))


def _idempotent(e: sp.Expr) -> sp.Expr:
    """A power of a delta is that delta."""

    def is_power(x: sp.Expr) -> bool:
        return isinstance(x, sp.Pow) and isinstance(x.base, sp.KroneckerDelta)

    return e.replace(lambda x: is_power(x) and x.exp.is_positive, lambda x: x.base)


def _opaque(e: sp.Expr) -> tuple[sp.Expr, dict[sp.Expr, sp.Expr]]:
    """With a plain symbol for each atom, which SymPy's algebra cannot look into."""
    seen: dict[sp.Expr, sp.Expr] = {}

    def walk(x: sp.Expr) -> sp.Expr:
        if x.is_Number:
            return x
        if isinstance(x, sp.Add | sp.Mul) or (isinstance(x, sp.Pow) and x.exp.is_Integer):
            return x.func(*(walk(a) for a in x.args))
        return seen.setdefault(x, sp.Dummy())

    plain = walk(e)
    return plain, {v: k for k, v in seen.items()}


def _factors(e: sp.Expr, c: Context) -> list[tuple[sp.Expr, sp.Expr]]:
    """``e`` as a product of powers, in one canonical way; a negative base gives its sign away."""
    plain, back = _opaque(e)
    out, sign = [], sp.Integer(1)
    for factor in sp.Mul.make_args(sp.factor(plain)):
        base, exponent = factor.as_base_exp()
        base = base.xreplace(back)
        if exponent.is_Integer and not positive(base, c) and positive(_expanded(-base), c):
            base, sign = _expanded(-base), sign * (-1) ** exponent
        out.append((base, exponent))
    return out if sign == 1 else [(sign, sp.Integer(1)), *out]


def _power(base: sp.Expr, exponent: sp.Expr, c: Context) -> sp.Expr:
    if exponent.is_Integer and exponent > 0:
        return _expanded(base**exponent)
    if exponent.is_Integer:
        if not (positive(base, c) or _each_positive(base, c)):
            raise Undecided(f"that {base} is not 0 is not shown")
        return _expanded(sp.Mul(*(b ** (x * exponent) for b, x in _factors(base, c))))
    whole, rest = exponent.as_coeff_Add()
    if not whole.is_Integer:
        whole, rest = sp.Integer(0), exponent
    return _expanded(_power(base, whole, c) * sp.Mul(*_real_powers(base, rest, c)))


def _each_positive(base: sp.Expr, c: Context) -> bool:
    return all(positive(b, c) or b == -1 for b, _ in _factors(base, c))


def _real_powers(base: sp.Expr, exponent: sp.Expr, c: Context) -> list[sp.Expr]:
    out = []
    for b, x in _factors(base, c):
        if not positive(b, c):
            raise Undecided(f"that {b} is positive is not shown")
        inner = b.args[0] if isinstance(b, Exp) else None
        out.append(b ** (x * exponent) if inner is None else _exp(inner * x * exponent, c))
    return out


def _exp(e: sp.Expr, c: Context) -> sp.Expr:
    """exp of a sum of monomials: a product, where log meets exp."""
    out = []
    for term in sp.Add.make_args(_expanded(e)):
        logs = [f for f in term.args if isinstance(f, sp.log)] if term.is_Mul else []
        logs = [term] if isinstance(term, sp.log) else logs
        coefficient, rest = term.as_coeff_Mul()
        if len(logs) == 1:
            out.append(_power(logs[0].args[0], term / logs[0], c))
        elif coefficient.is_Integer and rest != 1:
            out.append(Exp(rest) ** coefficient)
        else:
            out.append(sp.exp(term) if term in (0, -sp.oo) else Exp(term))
    return sp.Mul(*out)


def _log(e: sp.Expr, c: Context) -> sp.Expr:
    out = []
    for b, x in _factors(e, c):
        if not positive(b, c):
            raise Undecided(f"that {b} is positive is not shown")
        if isinstance(b, sp.Pow):
            b, x = b.base, b.exp * x
        out.append(x * (b.args[0] if isinstance(b, Exp) else sp.log(b)))
    return _expanded(sp.Add(*out))


_BINDERS: dict[tuple[int, sp.Expr], Index] = {}  # by depth and size


def _total(e: Total, c: Context) -> sp.Expr:
    e = instantiate(e, {})
    index, size = e.index, e.index.size
    if e.others:
        (other,) = e.others
        if size_of(other) != size:
            raise Undecided(f"{other} is not in the range of {index}")
        return normal(Total(e.body, index) - instantiate(e.body, {index: other}), c)
    if isinstance(size, Blocks):
        outer, inner = (Index(name, n) for name, n in zip("sc", size.args, strict=True))
        body = instantiate(e.body, {index: outer * inner.size + inner})
        return normal(Total(Total(body, inner), outer), c)
    terms = sp.Add.make_args(normal(e.body, c))
    return _expanded(sp.Add(*(_sum_of_product(t, index, c) for t in terms)))


def _sum_of_product(term: sp.Expr, index: Index, c: Context) -> sp.Expr:
    factors = sp.Mul.make_args(term)
    free = sp.Mul(*(f for f in factors if index not in subterms(f)))
    bound = [f for f in factors if index in subterms(f)]
    if not bound:
        return index.size * free
    for f in bound:
        if isinstance(f, sp.KroneckerDelta) and index in f.args:
            other = f.args[0] if f.args[1] == index else f.args[1]
            if size_of(other) == index.size and index not in subterms(other):
                rest = sp.Mul(*(b for b in bound if b is not f))
                return normal(free * instantiate(rest, {index: other}), c)
    body = sp.Mul(*bound)
    depth = 1 + max((_depth(s) for s in subterms(body) if isinstance(s, Total)), default=0)
    binder = _BINDERS.setdefault((depth, index.size), Index(f"j{depth}", index.size))
    return free * Total(body.xreplace({index: binder}), binder)


def _depth(e: Total) -> int:
    return 1 + max((_depth(s) for s in subterms(e.body) if isinstance(s, Total)), default=0)
