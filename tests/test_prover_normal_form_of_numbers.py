"""The normal form knows roundings, signs, squares and numbers, and assumes no more than holds."""

from fractions import Fraction

import numpy as np
import pytest
from xent_jax.proofs import _normal_form as f
from xent_jax.proofs._normal_form import (
    ONE,
    Refused,
    Symbol,
    delta,
    entry,
    index,
    knowing,
    poly,
    positive,
    substitute,
    total,
)
from xent_jax.proofs._prover.read import constant

from tests.terms import ROW, B, J, K, N, W, Z, spread

z, w, b = entry(Z, ROW, J), entry(W, ROW, J), entry(B, ROW, J)
SQUARES = total(z**2, J)
REFUSED = {
    "log of any sign": (lambda: f.log(z + 1), "not known to be positive"),
    "log of what may be 0": (
        lambda: f.log(entry(Symbol("x", "nonnegative"), ROW) * w),
        "may be 0",
    ),
    "a quotient": (lambda: f.inverse(z), "not known to differ from 0"),
    "at least 0": (lambda: f.at_least(0, z), "as if it were positive"),
    "fewer bits": (lambda: f.fewer_bits(0, z), "not known to be positive"),
    "a root": (lambda: f.power_of(z, Fraction(1, 2)), "not known to be positive"),
    "over a root": (lambda: f.power_of(SQUARES, Fraction(-1, 2)), "not known to differ from 0"),
    # Multiplying these out would take hours.
    "the power 17": (lambda: (z + 1) ** 17, "the power 17 of"),
    "a high power": (lambda: (z + 1) ** 10**38, f"the power {10**38} of"),
    "exp of logs": (lambda: f.exp(10**6 * f.log(f.exp(z + 1) + 1)), "the power 1000000"),
    "a power of 2": (lambda: poly(2) ** 10**9, "the power"),
}


@pytest.mark.parametrize(("function", "words"), REFUSED.values(), ids=REFUSED)
def test_what_may_not_hold_is_refused(function, words):
    with pytest.raises(Refused, match=words):
        function()


# ---------------------------------------------------------------- sums rounded once

C = f.fewer_bits(0, f.at_least(Fraction(1, 2**20), total(z, J)))


def test_what_is_kept_above_a_number_is_positive_whatever_it_was():
    kept = f.at_least(Fraction(1, 2), z)
    assert positive(kept) and (kept * f.inverse(kept)).number() == 1
    assert f.greater(kept - Fraction(1, 2)).number() is None  # kept may be 1/2 itself


def test_substitution_reaches_what_is_kept_above_a_number():
    kept = f.at_least(Fraction(1, 2), z)
    (entry_of_z,) = z.atoms()
    assert substitute(kept, {entry_of_z: poly(3)}).number() == 3
    assert substitute(kept, {entry_of_z: poly(-3)}).number() == Fraction(1, 2)


def test_fewer_bits_of_what_is_positive_in_one_case_are_refused():
    ((known, _),) = b.single()[0]
    with knowing(poly(known)), pytest.raises(Refused):  # the atom would stay positive afterwards
        f.fewer_bits(0, poly(known))


def test_fewer_bits_are_not_the_number():
    assert C != f.at_least(Fraction(1, 2**20), total(z, J))
    assert f.fewer_bits(1, ONE + w) != f.fewer_bits(0, ONE + w)


def test_a_sum_less_its_fractions_is_a_sum_of_integers():
    scaled = C * z
    rest = total(scaled - f.floor(scaled), J)
    whole = f.nearest(C * total(z, J) - rest)
    assert whole == total(f.floor(scaled), J)
    assert (whole + rest) * f.inverse(C) == total(z, J)
    assert not f.integral(C * total(z, J))


def test_a_maximum_with_an_integer_is_one_only_of_an_integer():
    count = total(b, J)
    assert f.integral(f.at_least(1, count))
    assert not f.integral(f.at_least(1, total(z, J)))
    assert not f.integral(f.at_least(Fraction(1, 2), count))


def test_what_multiplies_all_terms_of_a_maximum_goes_out_where_it_is_positive():
    r = entry(Symbol("r", "positive"))
    largest = f.greatest(z + w, ONE, J)
    assert f.greatest(z * f.inverse(r) + 3 + w * f.inverse(r), ONE, J) == largest * f.inverse(r) + 3
    assert f.greatest(2 * r * z + 2 * r * w, ONE, J) == 2 * r * largest
    for different in (-z - w, z * w + w * w, z * entry(Z, ROW) + w * entry(Z, ROW)):
        (greatest,) = f.greatest(different, ONE, J).atoms()
        assert greatest.kind == "max" and poly(greatest) != largest


def test_a_power_is_multiplied_out_up_to_a_limit():
    p = z + 1
    assert p**16 == p**15 * p
    assert (poly(2) ** 1074).number() == 2**1074


# ---------------------------------------------------------------- squares of sums, and numbers


def test_the_square_of_a_sum_is_bounded():
    masked = total(b, J) * total(b * z * z, J) - total(b * z, J) ** 2
    weighted = total(w, J) * total(w * z * z, J) - total(w * z, J) ** 2
    both = K * N * total(total(z * z, J), ROW) - total(total(z, J), ROW) ** 2
    for p in (spread(z, J), spread(z - w * 2 + b, J), masked, weighted, both):
        assert f.nonnegative(p) and positive(p + w) and not positive(p)


def test_and_not_by_less():
    of_z = spread(z, J)
    for p in (
        -of_z,
        of_z - total(z * z, J),
        of_z - total(z, J) ** 2,
        total(z * z, J) - total(z, J) ** 2,
        N * total(z * z, J) - total(z, J) ** 2,
        total(b, J) * total(z * z, J) - total(z, J) ** 2,
        total(w, J) * total(z * z, J) - total(w * z, J) ** 2,
        K * total(z * z, J) - total(z, J) ** 3,
        spread(z + w, J) - total(z, J) * total(w, J),
        spread(z - w, J) + total(z * w, J),
    ):
        assert not f.nonnegative(p)


def test_exponentials_are_ordered_by_their_exponents():
    assert positive(f.exp(w) - 1) and f.above_zero(1 - f.inverse(f.exp(w)))
    assert positive(2 * f.exp(z + w * w) - f.exp(z)) and positive(2 * f.exp(w) - 1)
    for p in (f.exp(z) - 1, 1 - f.exp(w), f.exp(w) - 2, f.exp(z + w) - f.exp(2 * z)):
        assert not f.nonnegative(p)


def test_a_sum_is_above_a_part_of_it():
    """``sum_j e_j [j <= i]`` is at least ``e_i``, so that a causal mask leaves a positive sum."""
    t, square = index("t", K), f.exp(z)
    later = f.greater(poly(J) - poly(t))
    for every in (square, ONE):
        left = total(every, J) - total(every * later, J)
        assert positive(left) and positive(2 * left + entry(W, ROW, t))
    not_before = total(square * (1 - f.greater(poly(t) - poly(J))), J)
    assert positive(not_before)
    strictly = total(square * later, J)
    assert f.nonnegative(strictly) and not positive(strictly)
    for p in (
        total(square, J) - 2 * total(square * later, J),
        total(z, J) - total(z * later, J),
        total(square, J) - total(square * z, J),
    ):
        assert not f.nonnegative(p)
    before = total(square, J) - total(square * later, J) - total(square * delta(J, t), J)
    assert not positive(before)


def test_no_maximum_or_sum_is_above_what_is_none_of_its_terms():
    other = entry(Symbol("q", "positive"), ROW)
    t = index("t", K)
    largest, added = f.greatest(z, ONE, J), total(w, J)
    assert f.nonnegative(largest - entry(Z, ROW, t)) and f.nonnegative(added - entry(W, ROW, t))
    assert not f.nonnegative(largest - other) and not f.nonnegative(added - other)


def test_a_root_of_what_may_be_0_is_0_there():
    square = total(z**2, J)
    root = f.power_of(square, Fraction(1, 2))
    assert root * root == square and root != square and f.nonnegative(root) and not positive(root)
    assert f.is_zero(root) == f.is_zero(square) and not (root * f.is_zero(root)).terms
    assert root * f.reciprocal(root) == 1 - f.is_zero(square)


def test_powers_of_numbers_are_whole_and_a_rest():
    root = f.power_of(poly(2), Fraction(1, 2))
    assert root * root == poly(2) and f.power_of(poly(8), Fraction(1, 2)) == 2 * root
    assert f.power_of(poly(Fraction(1, 2)), Fraction(43, 2)) * 2**22 == root
    assert f.power_of(poly(6), Fraction(1, 3)) ** 3 == poly(6)
    assert f.log(root) * 2 == f.log(poly(2))
    assert root != f.power_of(poly(2), Fraction(1, 3)) and (root - 1).number() is None


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_decimals_are_read_as_written_and_stay_different(dtype):
    for text in ("1e-06", "0.044715", "0.1", "-2.5"):
        number = constant(dtype(text)).value.number()
        assert number == Fraction(text) or dtype is np.float16
        following = constant(np.nextafter(dtype(text), dtype(1))).value.number()
        assert number < following and dtype(float(number)) == dtype(text)
    tiny = np.finfo(dtype).tiny
    assert constant(tiny).value.number() == Fraction(float(tiny))
