"""What is sure in one case of a distinction, or almost everywhere, and places told by their rows.

A function of terms with atoms b that are 0 or 1 is taken in each case: ``f(b) = b f(1) + (1 - b)
f(0)``, so that no guard remains inside.

Almost everywhere is off a set of arguments of measure 0. The terms are made of polynomials, exp,
log, fractions, roots and comparisons of such. So a set on which a comparison holds has a boundary
of measure 0 (it is definable in the real numbers with exp, which are o-minimal; with sin and cos,
each bounded part of it is), and off that boundary the comparison stays what it is nearby: its
derivative is 0. At the boundary, where pieces of a function meet, nothing is said.

An index t of an axis of size ``m s`` is ``q s + r``, with q below m and r below s. One of no such
form is ``div(t) s + mod(t)``, two atoms that are indices too. A place with both beside each other
holds t again, and a sum over t is one over q and r.
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
    """f of terms, for each case of their 0-1 atoms; impossible cases are left out.

    An atom in which the index ``bound`` stands is no case: f binds that index.
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
    """A term where a 0-1 atom is 1."""
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
    """A derivative that does not exist where pieces of a function meet."""


def almost_everywhere(arguments: frozenset[Symbol]) -> contextlib.AbstractContextManager[None]:
    """Inside, derivatives and zeros are meant off a set of these arguments of measure 0.

    Cotangents and tangents are not among them: what is shown holds for every one of those.
    """
    return during(_arguments, arguments)


def off_kinks() -> bool:
    """Whether derivatives and zeros are meant almost everywhere here."""
    return bool(_arguments.get())


def usual(p: Poly) -> Poly:
    """What a term is almost everywhere: ``[q = 0]`` is 0 unless q may vanish on more than that."""
    if not off_kinks():
        return p
    rare = (a for a in p.inside() if a.kind == "zero" and _rarely_zero(a.args[0]))
    return substitute(p, dict.fromkeys(rare, ZERO))


def _rarely_zero(p: Poly) -> bool:
    """Whether p is 0 on a set of measure 0 only.

    It is where, as a polynomial in one entry of an argument whose other entries do not occur in p,
    its leading coefficient is: for all other numbers there are finitely many zeros.
    """
    if positive(p) or positive(-p):
        return True
    term = p.single()
    if term is not None:
        return all(_rarely_zero_factor(a) for a, _ in term[0])
    return any(_rarely_zero(q) for a in p.atoms() for q in _leading(p, a))


def _rarely_zero_factor(a: Atom) -> bool:
    """Whether an atom is 0 on a set of measure 0 only.

    A sine or a cosine is 0 at countably many values of its argument.
    """
    p = a.args[0] if a.kind in {"sin", "cos"} else poly(a)
    return positive(poly(a)) or any(_rarely_zero(q) for b in p.atoms() for q in _leading(p, b))


def _varies(a: Atom) -> bool:
    return a.kind == "entry" and a.args[0] in _arguments.get() and a.args[0].sort in _REAL


def _leading(p: Poly, a: Atom) -> Iterator[Poly]:
    """The leading coefficient of p as a polynomial in a, or in any one term of a sum a."""
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
    """Whether a symbol stands in p nowhere but in the atom a of its terms, and in no name."""
    if any(b.kind == "entry" and b.args[0].meaning for b in p.inside()):
        return False
    return not any(
        b.kind == "entry" and b.args[0] == symbol
        for other in p.atoms()
        if other is not a
        for b in other.inside
    )


def divided(p: Poly, s: Poly) -> tuple[Poly, Poly]:
    """Integers q and r with ``p = q s + r`` and ``0 <= r < s``."""
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
    """``p = q s + r``, where no term of r is a multiple of the leading term of s."""
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
    """What is 0 where an index t is u, if u is ``q s + r`` and t one of ``m s`` places."""
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
