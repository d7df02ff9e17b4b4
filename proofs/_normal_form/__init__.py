"""Terms, and when they are equal: the rules that a proof rests on.

A term is a polynomial with rational coefficients; its atoms are entries of the arguments,
dimensions, sums over an index, and functions of terms. Two are equal if they are made into
the same one. The files, each on those before it:

- ``terms``, ``indices``, ``sums``: terms as such;
- ``signs``, ``cases``: what is sure, also in one case of a distinction or almost everywhere;
- ``functions``, ``zero``: functions of terms, each normalised as it is made;
- ``products``: which products of atoms are the same, by these functions;
- ``derivatives``, ``vanishing``: what the prover asks.
"""

from . import products as products  # puts its rules where ``terms`` looks for them
from .cases import Kinked, almost_everywhere, by_cases, divided, usual
from .derivatives import derivative
from .functions import (
    PI,
    above_zero,
    any_number,
    at_least,
    atan,
    cos,
    erf,
    exp,
    fewer_bits,
    floor,
    greatest,
    integral,
    inverse,
    log,
    nearest,
    power_of,
    reciprocal,
    sin,
    tanh,
)
from .indices import Symbol, as_index, delta, entry, fresh, index, same_place, substitute
from .signs import nonnegative, positive
from .sums import opened, total
from .terms import (
    ONE,
    ZERO,
    Atom,
    Exceeded,
    Monomial,
    Number,
    Poly,
    Refused,
    atom,
    forget,
    forgotten_if,
    knowing,
    limited,
    look,
    poly,
    product,
)
from .vanishing import vanishes
from .zero import greater, is_zero

__all__ = [
    "Atom",
    "Exceeded",
    "Kinked",
    "Monomial",
    "Number",
    "ONE",
    "PI",
    "Poly",
    "Refused",
    "Symbol",
    "ZERO",
    "above_zero",
    "almost_everywhere",
    "as_index",
    "atan",
    "at_least",
    "any_number",
    "atom",
    "by_cases",
    "cos",
    "delta",
    "derivative",
    "divided",
    "entry",
    "erf",
    "exp",
    "fewer_bits",
    "floor",
    "forget",
    "forgotten_if",
    "fresh",
    "greater",
    "greatest",
    "index",
    "integral",
    "inverse",
    "is_zero",
    "knowing",
    "limited",
    "log",
    "look",
    "nearest",
    "nonnegative",
    "opened",
    "poly",
    "positive",
    "power_of",
    "product",
    "reciprocal",
    "same_place",
    "sin",
    "substitute",
    "tanh",
    "total",
    "usual",
    "vanishes",
]
