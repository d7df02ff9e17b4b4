"""Splits terms by cases, simplifies them almost everywhere, and splits places into rows.

A function f of a term with an atom b that is 0 or 1, called a guard, is computed in both cases:
``f(b) = b f(1) + (1 - b) f(0)``. So no guard remains inside the function.

Almost everywhere means outside a set of arguments of measure 0. Terms are made of polynomials, exp,
log, fractions, roots, and comparisons of these. So a set on which a comparison holds has a boundary
of measure 0: the set is definable in the real numbers with exp, which are o-minimal, and with sin
and cos each bounded part of the set is. Outside the boundary a comparison is locally constant, so
its derivative is 0. Nothing is claimed on the boundary, where pieces of a function meet.

An index t of an axis of size ``m s`` is ``q s + r``, with q below m and r below s. Where t is not
written in this form, q and r are the atoms ``div(t)`` and ``mod(t)``, which are indices too. A
place with ``div(t) s + mod(t)`` is simplified to t, and a sum over t becomes one over q and r.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

from .indices import Symbol, as_index, is_index, least_size, row_kept, substitute
from .known import known_where_zero
from .signs import nonnegative, positive
from .state import during, knowing
from .sums import opened
from .terms import (
    ONE,
    ZERO,
    Atom,
    Kind,
    Monomial,
    Poly,
    Refused,
    add_all,
    always,
    atom,
    kinds,
    monomial_key,
    poly,
    product,
)

_MAX_GUARDS = 10


def by_cases(
    f: Callable[..., Poly],
    *parts: Poly,
    bound: Atom | None = None,
    weight: Poly = ONE,
    depth: int = 0,
) -> Poly:
    """Returns ``f(*parts)`` as a sum over the cases of the 0-1 atoms in ``parts``.

    Each summand is f in one case times the 0-1 factors of that case. Impossible cases are left out.
    Atoms that depend on the index ``bound`` are not split, because f binds this index. The product
    of the factors so far is ``weight``, and ``depth`` is their number.
    """
    guards = {a for p in parts for a in p.atoms() if a.boolean and bound not in a.free}
    if not guards:
        return f(*parts)
    if depth == _MAX_GUARDS:
        raise Refused("a function of too many guards")
    guard = min(guards, key=lambda a: (a.kind != "entry", a.key))
    yes = weight * poly(guard)
    no = weight - yes
    result = ZERO
    if yes.terms:
        with knowing(poly(guard)):
            here = [given(p, guard) for p in parts]
            result = poly(guard) * by_cases(f, *here, bound=bound, weight=yes, depth=depth + 1)
    if no.terms:
        absent = guard.args[0] if guard.kind == "zero" else ONE
        with knowing(absent):
            here = [substitute(p, {guard: ZERO}) for p in parts]
            branch = by_cases(f, *here, bound=bound, weight=no, depth=depth + 1)
        result = result + branch - poly(guard) * branch
    return result


def given(p: Poly, guard: Atom) -> Poly:
    """Returns what p is where the 0-1 atom ``guard`` is 1."""
    p = substitute(p, {guard: ONE})
    if guard.kind == "delta":
        i, t = guard.args
        if isinstance(t, int) or i not in t.inside:
            return substitute(p, {i: poly(t)})
    if guard.kind == "zero":
        return substitute(p, known_where_zero(guard, p.atoms()))
    if guard.kind == "entry":
        return substitute(p, {a: ONE for a in p.inside() if row_kept(a) is guard})
    return p


_REAL = {"real", "positive", "nonnegative", "unit"}
_arguments: ContextVar[frozenset[Symbol]] = ContextVar("arguments", default=frozenset())


class Kinked(Refused):
    """Raised for a derivative that does not exist where pieces of a function meet."""


def almost_everywhere(arguments: frozenset[Symbol]) -> contextlib.AbstractContextManager[None]:
    """Assumes inside the context that sets of measure 0 of these arguments do not matter.

    Derivatives and zeros may be wrong on such a set. Cotangents and tangents are not among the
    arguments, so that proofs hold for each of their values.
    """
    return during(_arguments, arguments)


def off_kinks() -> bool:
    """Returns whether an ``almost_everywhere`` context is open."""
    return bool(_arguments.get())


def usual(p: Poly) -> Poly:
    """Returns p with 0 for each ``[q = 0]`` where q is 0 only on a set of measure 0.

    Returns p unchanged outside an ``almost_everywhere`` context.
    """
    if not off_kinks():
        return p
    rare = (a for a in p.inside() if a.kind == "zero" and _rarely_zero(a.args[0]))
    return substitute(p, dict.fromkeys(rare, ZERO))


def _rarely_zero(p: Poly) -> bool:
    """Returns whether p is certain to be 0 only on a set of measure 0.

    This holds if p is a polynomial in one entry of an argument, if no other entry of the argument
    is in p, and if the leading coefficient is 0 only on a set of measure 0: where the coefficient
    is not 0, finitely many values of the entry make p 0.
    """
    if positive(p) or positive(-p):
        return True
    term = p.single()
    if term is not None:
        return all(_rarely_zero_factor(a) for a, _ in term[0])
    return any(_rarely_zero(q) for a in p.atoms() for q in _leading(p, a))


def _rarely_zero_factor(a: Atom) -> bool:
    """Returns whether an atom is certain to be 0 only on a set of measure 0.

    A sine or a cosine is 0 only at countably many values of its argument.
    """
    p = a.args[0] if a.kind in {"sin", "cos"} else poly(a)
    return positive(poly(a)) or any(_rarely_zero(q) for b in p.atoms() for q in _leading(p, b))


def _varies(a: Atom) -> bool:
    return a.kind == "entry" and a.args[0] in _arguments.get() and a.args[0].sort in _REAL


def _leading(p: Poly, a: Atom) -> Iterator[Poly]:
    """Yields leading coefficients of p, as a polynomial in a or in an entry in the body of a sum a.

    Only entries are used whose argument has no other entry in p, or in the body.
    """
    powers = {dict(m).get(a, 0) for m in p.terms}
    most = max(powers)
    if any(e < 0 or e != int(e) for e in powers):
        return
    lead = add_all(product(m - {(a, most)}, c) for m, c in p.terms.items() if (a, most) in m)
    if _varies(a) and _only(a, a.args[0], p):
        yield lead
    if a.kind == "sum" and most == 1 and least_size(a.args[0].args[1]) > 0:
        i, body = opened(a)
        for b in body.atoms():
            if _varies(b) and i in b.args[1] and _only(a, b.args[0], p):
                yield from (lead * q for q in _leading(body, b))


def _only(a: Atom, symbol: Symbol, p: Poly) -> bool:
    """Returns whether the entries of a symbol are in no atom of p but a.

    Returns False if p has a symbol with a ``meaning``, which may contain such entries.
    """
    if any(b.kind == "entry" and b.args[0].meaning for b in p.inside()):
        return False
    return not any(
        b.kind == "entry" and b.args[0] == symbol
        for other in p.atoms()
        if other is not a
        for b in other.inside
    )


def divided(p: Poly, s: Poly) -> tuple[Poly, Poly]:
    """Returns integers q and r with ``p = q s + r`` and ``0 <= r < s``, or raises ``Refused``."""
    high, low = _long_division(p, s)
    if nonnegative(low) and positive(s - low):
        return high, low
    t = as_index(low)
    if isinstance(t, Atom) and is_index(t):
        many, rest = _long_division(t.values, s)
        if not rest.terms:
            return high + atom("div", t, s, many), poly(atom("mod", t, s, many))
    raise Refused(f"the place {p} in rows of {s}")


def _long_division(p: Poly, s: Poly) -> tuple[Poly, Poly]:
    """Returns q and r with ``p = q s + r`` and no multiple of the leading term of s in r."""
    lead = max(s.terms, key=lambda m: (sum(int(e) for _, e in m), monomial_key(m)))
    high = ZERO
    while True:
        for m, c in p.terms.items():
            over = product([*m, *((a, -e) for a, e in lead)], 1)
            ((n, _),) = over.terms.items()
            if c % s.terms[lead] == 0 and all(e > 0 for _, e in n):
                term = Poly({n: c // s.terms[lead]})
                high, p = high + term, p - term * s
                break
        else:
            return high, p


def equal_parts(t: Atom, u: Poly) -> tuple[Poly, Poly] | None:
    """Returns the quotient and the remainder of t by a size s, minus those of u, or None.

    Both differences are 0 where the index t is u, and only there. The size s is the factor of an
    index in u. The result is None if t and u cannot both be divided by any such s.
    """
    for m in sorted(u.terms, key=monomial_key):
        inner = [a for a, _ in m if is_index(a)]
        beside: Monomial = frozenset((a, e) for a, e in m if a not in inner)
        c = u.terms[m]
        s = Poly({beside: c if c > 0 else -c})
        if not inner or s.number() == 1 or s == t.values:
            continue
        try:
            (q, r), (high, low) = divided(poly(t), s), divided(u, s)
        except Refused:
            continue
        return q - high, r - low
    return None


kinds["div"] = Kind(
    lambda t, s, _: divided(t, s)[0],
    values=lambda a: a.args[2],
    integral=always,
    nonnegative=always,
)
kinds["mod"] = Kind(
    lambda t, s, _: divided(t, s)[1],
    values=lambda a: a.args[1],
    integral=always,
    nonnegative=always,
)
