"""Terms, and when they are equal: the rules that a proof rests on.

A term is a polynomial with rational coefficients; its atoms are entries of the arguments,
dimensions, sums over an index, and functions of terms. Two are equal if they are made into
the same one. The files, each on those before it:

- ``limits``, ``facts``, ``polynomial``, ``indices``, ``substitution``, ``sums``: terms as such;
- ``known``, ``signs``, ``places``, ``cases``: what is sure in one case of a distinction;
- ``kinks``: what holds almost everywhere;
- ``quotients``, ``exponentials``, ``angles``, ``smooth``, ``dominance``, ``rounding``, ``zero``,
  ``comparisons``, ``maxima``: functions of terms, each normalised as it is made;
- ``products``: which products of atoms are the same, by these functions;
- ``remainders``: fractions under a sum, modulo their denominators;
- ``derivatives``, ``vanishing``: what the prover asks.
"""

from . import products as products  # puts its rules where ``polynomial`` looks for them
from .angles import cos, sin
from .cases import by_cases
from .comparisons import greater
from .derivatives import derivative
from .exponentials import exp, log, power_of, tanh
from .facts import forget, knowing
from .indices import Symbol, as_index, delta, entry, fresh, index, same_place
from .kinks import Kinked, almost_everywhere, usual
from .limits import Exceeded, limited, look
from .maxima import at_least, greatest
from .places import divided
from .polynomial import (
    ONE,
    ZERO,
    Atom,
    Monomial,
    Number,
    Poly,
    Refused,
    atom,
    forgotten_if,
    poly,
    product,
)
from .quotients import above_zero, inverse, reciprocal
from .rounding import any_number, fewer_bits, floor, integral, nearest
from .signs import nonnegative, positive
from .smooth import PI, atan, erf
from .substitution import substitute
from .sums import opened, total
from .vanishing import vanishes
from .zero import is_zero

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
