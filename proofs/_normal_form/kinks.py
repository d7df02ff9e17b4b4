"""Almost everywhere: what holds but on a set of arguments of measure 0.

The terms are made of polynomials, exp, log, fractions, roots and comparisons of such. So a set on
which a comparison holds has a boundary of measure 0 (it is definable in the real numbers with exp,
which are o-minimal; with sin and cos, each bounded part of it is), and off that boundary the
comparison stays what it is nearby: its derivative is 0. At the boundary, where pieces of a function
meet, nothing is said.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

from .indices import Symbol, least_size
from .polynomial import ZERO, Atom, Poly, Refused, add_all, poly, product
from .signs import positive
from .substitution import substitute
from .sums import opened

_REAL = {"real", "positive", "nonnegative", "unit"}
_arguments: ContextVar[frozenset[Symbol]] = ContextVar("arguments", default=frozenset())


class Kinked(Refused):
    """A derivative that does not exist where pieces of a function meet."""


@contextlib.contextmanager
def almost_everywhere(arguments: frozenset[Symbol]) -> Iterator[None]:
    """Inside, derivatives and zeros are meant off a set of these arguments of measure 0.

    Cotangents and tangents are not among them: what is shown holds for every one of those.
    """
    token = _arguments.set(arguments)
    try:
        yield
    finally:
        _arguments.reset(token)


def off_kinks() -> bool:
    """Whether that is meant here."""
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
    """Whether an atom is; a sine or a cosine is where its argument has one of countably many."""
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
