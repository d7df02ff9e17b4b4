"""Normal forms: rational functions of atoms, by the rules that head ``decide``.

``known`` are normal forms of sums that are known to be positive.
"""

from __future__ import annotations

import sympy as sp
from sympy.core.function import AppliedUndef

from .terms import Blocks, Gap, Index, Total, instantiate, size_of, subterms

Known = list[sp.Expr]


class Undecided(Exception):
    """Equality was not shown; the message says why."""


class Exp(sp.Function):
    """exp in a normal form, which keeps SymPy from combining its powers."""

    nargs = 1


def normal(e: sp.Expr, known: Known) -> sp.Expr:
    """Returns the normal form, or raises ``Undecided``."""
    if not e.args or isinstance(e, AppliedUndef | sp.KroneckerDelta):
        return e
    if isinstance(e, sp.Add | sp.Mul):
        return _expanded(e.func(*(normal(a, known) for a in e.args)))
    if isinstance(e, sp.Pow):
        return _power(normal(e.base, known), normal(e.exp, known), known)
    if isinstance(e, sp.exp | Exp):
        return _exp(normal(e.args[0], known), known)
    if isinstance(e, sp.log):
        return _log(normal(e.args[0], known), known)
    if isinstance(e, Total):
        return _total(e, known)
    if isinstance(e, Gap):
        return normal(e.args[0] - 1 - sp.log(e.args[0]), known)
    if isinstance(e, sp.tanh | sp.cosh | sp.sinh):
        return normal(e.rewrite(sp.exp), known)
    if isinstance(e, sp.Max):
        return sp.Max(*(normal(a, known) for a in e.args))
    raise Undecided(f"{e.func.__name__} is not read")


def positive(e: sp.Expr, known: Known) -> bool:
    """Returns whether a normal form is shown to be above 0."""
    return sign(e, known, strictly=True)


def sign(e: sp.Expr, known: Known, strictly: bool) -> bool:
    """Returns whether a normal form is shown to be at least 0, or above 0."""
    if any(difference(e - k) == 0 for k in known):
        return True
    if isinstance(e, sp.exp | Exp):
        return True
    if isinstance(e, sp.Add):
        return all(sign(a, known, False) for a in e.args) and (
            not strictly or any(sign(a, known, True) for a in e.args)
        )
    if isinstance(e, sp.Mul | sp.Max):
        every = all if isinstance(e, sp.Mul) else any
        return every(sign(a, known, strictly) for a in e.args)
    if isinstance(e, sp.Pow) and e.exp.is_real:
        square = e.exp.is_even and e.exp.is_positive and not strictly
        return bool(square) or sign(e.base, known, True)
    if isinstance(e, Total):
        if strictly and e.others:
            return any(difference(normal(e, known) - k) == 0 for k in known)
        return sign(e.body, known, strictly)
    if isinstance(e, Gap):
        return not strictly and sign(e.args[0], known, True)
    if isinstance(e, sp.KroneckerDelta):
        return not strictly
    return bool(e.is_positive if strictly else e.is_nonnegative)


def difference(e: sp.Expr) -> sp.Expr:
    """Returns an expression, or 0 if it is zero as a rational function of its atoms."""
    plain, back = _opaque(e)
    numerator, _ = sp.fraction(sp.together(plain))
    return sp.Integer(0) if sp.expand(numerator) == 0 else plain.xreplace(back)


def _expanded(e: sp.Expr) -> sp.Expr:
    plain, back = _opaque(e)
    return _idempotent(sp.expand(plain, power_exp=False, log=False).xreplace(back))


def _idempotent(e: sp.Expr) -> sp.Expr:
    """Replaces a power of a delta by that delta."""

    def is_power(x: sp.Expr) -> bool:
        return isinstance(x, sp.Pow) and isinstance(x.base, sp.KroneckerDelta)

    return e.replace(lambda x: is_power(x) and x.exp.is_positive, lambda x: x.base)


def _opaque(e: sp.Expr) -> tuple[sp.Expr, dict[sp.Expr, sp.Expr]]:
    """Replaces each atom by a plain symbol, which SymPy's algebra cannot look into."""
    seen: dict[sp.Expr, sp.Expr] = {}

    def walk(x: sp.Expr) -> sp.Expr:
        if x.is_Number:
            return x
        if isinstance(x, sp.Add | sp.Mul) or (isinstance(x, sp.Pow) and x.exp.is_Integer):
            return x.func(*(walk(a) for a in x.args))
        return seen.setdefault(x, sp.Dummy())

    plain = walk(e)
    return plain, {v: k for k, v in seen.items()}


def _factors(e: sp.Expr, known: Known) -> list[tuple[sp.Expr, sp.Expr]]:
    """Returns ``e`` as a product of powers, in one canonical form with positive bases."""
    plain, back = _opaque(e)
    out, sign = [], sp.Integer(1)
    for factor in sp.Mul.make_args(sp.factor(plain)):
        base, exponent = factor.as_base_exp()
        base = base.xreplace(back)
        if exponent.is_Integer and not positive(base, known) and positive(_expanded(-base), known):
            base, sign = _expanded(-base), sign * (-1) ** exponent
        out.append((base, exponent))
    return out if sign == 1 else [(sign, sp.Integer(1)), *out]


def _power(base: sp.Expr, exponent: sp.Expr, known: Known) -> sp.Expr:
    if exponent.is_Integer and exponent > 0:
        return _expanded(base**exponent)
    if exponent.is_Integer:
        if not (positive(base, known) or _each_positive(base, known)):
            raise Undecided(f"that {base} is not 0 is not shown")
        return _expanded(sp.Mul(*(b ** (x * exponent) for b, x in _factors(base, known))))
    whole, rest = exponent.as_coeff_Add()
    if not whole.is_Integer:
        whole, rest = sp.Integer(0), exponent
    return _expanded(_power(base, whole, known) * sp.Mul(*_real_powers(base, rest, known)))


def _each_positive(base: sp.Expr, known: Known) -> bool:
    return all(positive(b, known) or b == -1 for b, _ in _factors(base, known))


def _real_powers(base: sp.Expr, exponent: sp.Expr, known: Known) -> list[sp.Expr]:
    out = []
    for b, x in _factors(base, known):
        if not positive(b, known):
            raise Undecided(f"that {b} is positive is not shown")
        inner = b.args[0] if isinstance(b, Exp) else None
        out.append(b ** (x * exponent) if inner is None else _exp(inner * x * exponent, known))
    return out


def _exp(e: sp.Expr, known: Known) -> sp.Expr:
    """exp of a sum of monomials: a product, where log meets exp."""
    out = []
    for term in sp.Add.make_args(_expanded(e)):
        logs = [f for f in term.args if isinstance(f, sp.log)] if term.is_Mul else []
        logs = [term] if isinstance(term, sp.log) else logs
        coefficient, rest = term.as_coeff_Mul()
        if len(logs) == 1:
            out.append(_power(logs[0].args[0], term / logs[0], known))
        elif coefficient.is_Integer and rest != 1:
            out.append(Exp(rest) ** coefficient)
        else:
            out.append(sp.exp(term) if term in (0, -sp.oo) else Exp(term))
    return sp.Mul(*out)


def _log(e: sp.Expr, known: Known) -> sp.Expr:
    out = []
    for b, x in _factors(e, known):
        if not positive(b, known):
            raise Undecided(f"that {b} is positive is not shown")
        if isinstance(b, sp.Pow):
            b, x = b.base, b.exp * x
        out.append(x * (b.args[0] if isinstance(b, Exp) else sp.log(b)))
    return _expanded(sp.Add(*out))


# The indices that sums bind in normal forms, by depth and size.
_BINDERS: dict[tuple[int, sp.Expr], Index] = {}


def _total(e: Total, known: Known) -> sp.Expr:
    e = instantiate(e, {})
    index, size = e.index, e.index.size
    if e.others:
        (other,) = e.others
        if size_of(other) != size:
            raise Undecided(f"{other} is not in the range of {index}")
        return normal(Total(e.body, index) - instantiate(e.body, {index: other}), known)
    if isinstance(size, Blocks):
        outer, inner = (Index(name, n) for name, n in zip("sc", size.args, strict=True))
        body = instantiate(e.body, {index: outer * inner.size + inner})
        return normal(Total(Total(body, inner), outer), known)
    terms = sp.Add.make_args(normal(e.body, known))
    return _expanded(sp.Add(*(_sum_of_product(t, index, known) for t in terms)))


def _sum_of_product(term: sp.Expr, index: Index, known: Known) -> sp.Expr:
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
                return normal(free * instantiate(rest, {index: other}), known)
    body = sp.Mul(*bound)
    depth = 1 + max((_depth(s) for s in subterms(body) if isinstance(s, Total)), default=0)
    binder = _BINDERS.setdefault((depth, index.size), Index(f"j{depth}", index.size))
    return free * Total(body.xreplace({index: binder}), binder)


def _depth(e: Total) -> int:
    return 1 + max((_depth(s) for s in subterms(e.body) if isinstance(s, Total)), default=0)


def is_binder(e: sp.Basic) -> bool:
    """Returns whether it is an index that a sum in a normal form binds."""
    return e in _BINDERS.values()
