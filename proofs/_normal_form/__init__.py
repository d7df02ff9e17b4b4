"""Terms, and when they are equal: the rules that a proof rests on.

A term is a polynomial with rational coefficients; its atoms are entries of the arguments,
dimensions, sums over an index, and functions of terms. Two are equal if they are made into
the same one. The files, each on those before it:

- ``state``: the limits of a proof, what it knows and remembers;
- ``terms``, ``indices``, ``orders``, ``sums``: terms as such;
- ``known``, ``signs``, ``bounds``, ``cases``: what is sure, also in one case of a distinction or
  almost everywhere;
- ``fractions``, ``functions``, ``dominance``, ``zero``: functions of terms, each normalised as it
  is made;
- ``products``: which products of atoms are the same, by these functions;
- ``questions``: what the prover asks, a derivative and whether a term is 0.
"""

from . import products as products  # puts its rules where ``terms`` looks for them
from .cases import Kinked, almost_everywhere, by_cases, divided, usual
from .fractions import above_zero, inverse, reciprocal, together
from .functions import (
    PI,
    any_number,
    at_least,
    atan,
    cos,
    erf,
    exp,
    fewer_bits,
    floor,
    greatest,
    log,
    nearest,
    power_of,
    sin,
    tanh,
)
from .indices import (
    Symbol,
    as_index,
    delta,
    entry,
    fresh,
    index,
    same_place,
    solved_in_permutations,
    substitute,
    unused,
    within,
)
from .questions import derivative, vanishes
from .signs import nonnegative, positive
from .state import Exceeded, forget, knowing, limited, look
from .sums import opened, total
from .terms import (
    ONE,
    ZERO,
    Atom,
    Monomial,
    Number,
    Poly,
    Refused,
    atom,
    forgotten,
    forgotten_if,
    integral,
    poly,
    product,
)
from .zero import greater, is_zero
