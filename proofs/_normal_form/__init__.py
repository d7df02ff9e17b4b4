"""Brings terms into a normal form, by the rules that every proof rests on.

A term is a polynomial with rational coefficients. Its atoms are entries of the arguments,
dimensions, sums over an index, and functions of terms. Two terms are proved equal by bringing them
into the same normal form. Each file uses only the files that are listed before it:

- ``state``: the limits of a proof, the facts that it may use and the results that it remembers;
- ``terms``, ``indices``, ``orders``, ``sums``: polynomials, indices, and sums over indices;
- ``known``, ``signs``, ``bounds``, ``cases``: values and signs that are certain, either always, or
  in one case of several, or almost everywhere;
- ``fractions``, ``functions``, ``dominance``, ``zero``: functions of terms, which return results in
  normal form;
- ``products``: the rules that bring products of atoms into normal form;
- ``questions``: the prover's questions, which are a derivative and whether a term is 0.
"""

from . import products as products  # adds its rules to ``terms.rules``
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
