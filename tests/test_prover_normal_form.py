"""The rules of the normal form: its binders, side conditions, roundings, squares and numbers."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from xent_jax.proofs import _normal_form as f
from xent_jax.proofs._normal_form import (
    ONE,
    Refused,
    Symbol,
    atom,
    delta,
    derivative,
    entry,
    fresh,
    index,
    knowing,
    opened,
    poly,
    positive,
    substitute,
    total,
    vanishes,
)
from xent_jax.proofs._normal_form.questions import reduced
from xent_jax.proofs._prover.read import constant

from tests.terms import LABEL, ROW, B, Evaluation, J, K, N, W, Z, drawn_arrays, spread

# ---------------------------------------------------------------- binders


def test_equal_sums_are_equal_whatever_their_index_is_called():
    a, b = fresh(K), fresh(K)
    assert total(f.exp(entry(Z, ROW, a)), a) == total(f.exp(entry(Z, ROW, b)), b)


def test_sums_of_sums_are_equal_in_whatever_order():
    """Of a chain of arrays, and of one with deltas that first stand under other indices."""
    (a, b), (i, j) = (fresh(K), fresh(K)), (fresh(N), fresh(N))
    chain = entry(Z, ROW, a) * f.exp(entry(W, i, a)) * entry(W, i, b) * entry(Z, j, b)
    labels = [entry(Symbol(name, "index", K), i, j).atoms() for name in "xy"]
    (x,), (y,) = labels
    found = delta(a, x) * delta(b, y) * entry(B, i, j) * entry(Symbol("v", "real"), i, a, j, b)
    for body in (chain, chain * entry(W, j, a), found):
        sums = set()
        for order in itertools.permutations([a, b, i, j]):
            p = body
            for binder in order:
                p = total(p, binder)
            sums.add(p)
        assert len(sums) == 1


def test_sums_over_different_dimensions_differ():
    a, b = fresh(K), fresh(N)
    assert total(entry(Z, ROW, a), a) != total(entry(Z, ROW, b), b)


def test_an_index_put_into_a_sum_is_not_captured():
    a = fresh(K)
    s = total(f.exp(entry(Z, ROW, a) + entry(Z, ROW, J)), a)  # j is free in it
    ((bound,),) = [[x for x in s.atoms() if x.kind == "sum"]]
    inner, _ = opened(bound)
    captured = substitute(s, {J: poly(inner)})  # even by a name it was opened with
    arrays = drawn_arrays(0)
    value = Evaluation(arrays, {"n": 2, "k": 3})
    assert value(captured, {ROW: 0, inner: 2}) == pytest.approx(value(s, {ROW: 0, J: 2}))


def test_bound_names_cannot_be_put_in_from_outside():
    a = fresh(K)
    s = total(entry(Z, ROW, a) * entry(W, ROW, J), a)
    (bound,) = [x for x in s.atoms() if x.kind == "sum"]
    name = bound.args[0]
    assert substitute(s, {name: poly(J)}) == s


def test_the_product_of_two_sums_is_not_the_sum_of_the_product():
    a = fresh(K)
    once, square = total(entry(Z, ROW, a), a), total(entry(Z, ROW, a) ** 2, a)
    assert once * once != square
    value = Evaluation(drawn_arrays(0), {"n": 2, "k": 3})
    z = drawn_arrays(0)["z"]
    assert value(once * once, {ROW: 0}) == pytest.approx(z[0].sum() ** 2)


def test_the_derivative_at_an_index_that_is_summed_over_keeps_one_term():
    a, b = fresh(N), fresh(K)
    lse = f.log(total(f.exp(entry(Z, ROW, J)), J))
    softmax = f.exp(entry(Z, ROW, b)) * f.inverse(total(f.exp(entry(Z, ROW, J)), J))
    assert derivative(lse, Z, a, b) == delta(a, ROW) * substitute(softmax, {ROW: poly(ROW)})


def test_sums_of_sums_do_not_depend_on_the_order():
    x, u = Symbol("x", "real"), Symbol("u", "real")
    p = entry(x, ROW) * entry(Z, ROW, J) * entry(u, J)
    assert total(total(p, ROW), J) == total(total(p, J), ROW)


# ---------------------------------------------------------------- side conditions


def _fractions():
    """w and exp(z), whose sum over j with a factor c of the row is positive, over that sum."""
    c, w, e = f.exp(entry(Z, ROW, 0)), entry(W, ROW, J), f.exp(entry(Z, ROW, J))
    over = f.inverse(c * w + e)
    return c, w, e, total(w * over, J), total(e * over, J), total(w * w * e * over * over, J)


def test_fractions_under_a_sum_are_reduced_modulo_their_denominators():
    c, w, e, of_w, of_e, of_both = _fractions()
    assert vanishes(c * of_w + of_e - K)
    assert vanishes(c * of_w * of_both + of_e * of_both - K * of_both)
    squares = (total(x * y * f.inverse(c * w + e), J) for x, y in ((w, w), (w, e)))
    assert vanishes(c * next(squares) + next(squares) - total(w, J))
    for wrong in (c * of_w + 2 * of_e - K, c * of_e + of_w - K, of_w + of_e - K, c * of_w - of_e):
        assert not vanishes(wrong)


def test_reduced_fractions_have_the_same_value():
    value = Evaluation(drawn_arrays(0), {"n": 2, "k": 3})
    for p in _fractions()[4:]:  # those with the factor that is reduced
        short = reduced(p * p + 3 * p)
        assert short != p * p + 3 * p
        # The same number by two formulas of a dozen operations each, in float64.
        assert np.isclose(value(short, {ROW: 1}), value(p * p + 3 * p, {ROW: 1}), rtol=1e-12)


def test_a_logarithm_of_what_may_be_negative_is_refused():
    with pytest.raises(Refused, match="not known to be positive"):
        f.log(entry(Z, ROW, J) + 1)


def test_a_quotient_by_what_may_be_0_is_refused():
    with pytest.raises(Refused, match="not known to differ from 0"):
        f.inverse(entry(Z, ROW, J))


def test_a_positive_factor_in_a_sum_of_any_sign_plays_its_part():
    """``sum_i (sum_j h_ij)^2 = 0`` is that of no sum of h, and a factor of h_ij weighs in it."""
    h, w = entry(Z, ROW, J), entry(W, ROW, J)
    squares = f.is_zero(total(total(h, J) ** 2, ROW))
    assert squares != f.is_zero(total(total(h, J), ROW))
    assert squares != f.is_zero(total(total(w * h, J) ** 2, ROW))
    x = entry(Symbol("x", "nonnegative"), ROW, J)
    assert f.is_zero(total(total(w * x, J) ** 2, ROW)) == f.is_zero(total(total(x, J), ROW))


def test_logarithms_do_not_split_over_what_may_be_0():
    x = Symbol("x", "nonnegative")
    with pytest.raises(Refused, match="may be 0"):
        f.log(entry(x, ROW) * entry(W, ROW, J))


def test_a_sum_over_a_mask_does_not_cancel_against_its_inverse():
    """Where the mask is empty both are 0, and their product is not 1."""
    s = total(entry(B, ROW, J) * f.exp(entry(Z, ROW, J)), J)
    product = s * f.reciprocal(s)
    assert product == 1 - f.is_zero(total(entry(B, ROW, J), J))


def test_the_other_classes_are_there_from_two_classes_on():
    others = total(f.exp(entry(Z, ROW, J)), J) - f.exp(entry(Z, ROW, LABEL))
    with pytest.raises(Refused):
        f.log(others)
    two = poly(atom("dim", "k", 2))
    y, j = Symbol("y", "index", two), index("j", two)
    (label,) = entry(y, ROW).atoms()
    f.log(total(f.exp(entry(Z, ROW, j)), j) - f.exp(entry(Z, ROW, label)))


@pytest.mark.parametrize("numerator", [499, 500, 501])
def test_dominance_is_of_one_class_only_from_one_half_on(numerator):
    """[E_j > c S] of two classes excludes each other for c >= 1/2, and for no less."""
    e = f.exp(entry(Z, ROW, J))
    j = fresh(K)
    other = substitute(e, {J: poly(j)})
    s = total(e, J)
    both = f.greater(1000 * e - numerator * s) * f.greater(1000 * other - numerator * s)
    exclusive = vanishes(both * (1 - delta(J, j)))
    assert exclusive == (numerator >= 500)


def test_an_index_of_another_dimension_is_met_where_it_is_in_range():
    i = index("i", N)
    met = total(delta(J, i) * entry(Z, ROW, J), J)
    assert met == entry(Z, ROW, i) * f.greater(K - i)


# ---------------------------------------------------------------- sums rounded once

C = f.fewer_bits(0, f.at_least(Fraction(1, 2**20), total(entry(Z, ROW, J), J)))


def test_what_is_kept_above_a_number_is_positive_whatever_it_was():
    kept = f.at_least(Fraction(1, 2), entry(Z, ROW, J))
    assert positive(kept) and (kept * f.inverse(kept)).number() == 1
    assert f.greater(kept - Fraction(1, 2)).number() is None  # it may be the number itself
    with pytest.raises(Refused, match="as if it were positive"):
        f.at_least(0, entry(Z, ROW, J))


def test_substitution_reaches_what_is_kept_above_a_number():
    kept = f.at_least(Fraction(1, 2), entry(Z, ROW, J))
    (z,) = entry(Z, ROW, J).atoms()
    assert substitute(kept, {z: poly(3)}).number() == 3
    assert substitute(kept, {z: poly(-3)}).number() == Fraction(1, 2)


def test_fewer_bits_of_what_may_not_be_positive_are_refused():
    with pytest.raises(Refused, match="not known to be positive"):
        f.fewer_bits(0, entry(Z, ROW, J))
    ((b, _),) = entry(B, ROW, J).single()[0]
    with knowing(poly(b)), pytest.raises(Refused):  # the atom would outlive the case
        f.fewer_bits(0, poly(b))


def test_fewer_bits_are_not_the_number():
    assert C != f.at_least(Fraction(1, 2**20), total(entry(Z, ROW, J), J))
    assert f.fewer_bits(1, ONE + entry(W, ROW, J)) != f.fewer_bits(0, ONE + entry(W, ROW, J))


def test_a_sum_less_its_fractions_is_a_sum_of_integers():
    scaled = C * entry(Z, ROW, J)
    rest = total(scaled - f.floor(scaled), J)
    whole = f.nearest(C * total(entry(Z, ROW, J), J) - rest)
    assert whole == total(f.floor(scaled), J)
    assert (whole + rest) * f.inverse(C) == total(entry(Z, ROW, J), J)
    assert not f.integral(C * total(entry(Z, ROW, J), J))


def test_a_maximum_with_an_integer_is_one_only_of_an_integer():
    count = total(entry(B, ROW, J), J)
    assert f.integral(f.at_least(1, count))
    assert not f.integral(f.at_least(1, total(entry(Z, ROW, J), J)))
    assert not f.integral(f.at_least(Fraction(1, 2), count))


def test_what_multiplies_all_terms_of_a_maximum_goes_out_where_it_is_positive():
    z, r, w = entry(Z, ROW, J), entry(Symbol("r", "positive")), entry(W, ROW, J)
    largest = f.greatest(z + w, ONE, J)
    assert f.greatest(z * f.inverse(r) + 3 + w * f.inverse(r), ONE, J) == largest * f.inverse(r) + 3
    assert f.greatest(2 * r * z + 2 * r * w, ONE, J) == 2 * r * largest
    for different in (-z - w, z * w + w * w, z * entry(Z, ROW) + w * entry(Z, ROW)):
        (greatest,) = f.greatest(different, ONE, J).atoms()
        assert greatest.kind == "max" and poly(greatest) != largest


def test_a_high_power_is_refused_and_not_multiplied_out_for_hours():
    p = entry(Z, ROW, J) + 1
    assert p**16 == p**15 * p
    for power in (17, 10**38):
        with pytest.raises(Refused, match=f"the power {power} of"):
            p**power
    with pytest.raises(Refused, match="the power 1000000"):
        f.exp(10**6 * f.log(f.exp(p) + 1))
    assert (poly(2) ** 1074).number() == 2**1074
    with pytest.raises(Refused, match="the power"):
        poly(2) ** 10**9


# ---------------------------------------------------------------- squares of sums, and numbers


def test_the_square_of_a_sum_is_bounded():
    z, w, b = entry(Z, ROW, J), entry(W, ROW, J), entry(B, ROW, J)
    masked = total(b, J) * total(b * z * z, J) - total(b * z, J) ** 2
    weighted = total(w, J) * total(w * z * z, J) - total(w * z, J) ** 2
    both = K * N * total(total(z * z, J), ROW) - total(total(z, J), ROW) ** 2
    for p in (spread(z, J), spread(z - w * 2 + b, J), masked, weighted, both):
        assert f.nonnegative(p) and positive(p + w) and not positive(p)


def test_and_not_by_less():
    z, w, b = entry(Z, ROW, J), entry(W, ROW, J), entry(B, ROW, J)
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
    w, z = entry(W, ROW, J), entry(Z, ROW, J)
    assert positive(f.exp(w) - 1) and f.above_zero(1 - f.inverse(f.exp(w)))
    assert positive(2 * f.exp(z + w * w) - f.exp(z)) and positive(2 * f.exp(w) - 1)
    for p in (f.exp(z) - 1, 1 - f.exp(w), f.exp(w) - 2, f.exp(z + w) - f.exp(2 * z)):
        assert not f.nonnegative(p)


def test_a_sum_is_above_a_part_of_it():
    """``sum_j e_j [j <= i]``: e_i at least, so that a causal mask leaves something."""
    t, square = index("t", K), f.exp(entry(Z, ROW, J))
    later = f.greater(poly(J) - poly(t))
    for every in (square, ONE):
        left = total(every, J) - total(every * later, J)
        assert positive(left) and positive(2 * left + entry(W, ROW, t))
    not_before = total(square * (1 - f.greater(poly(t) - poly(J))), J)
    assert positive(not_before)
    strictly = total(square * later, J)
    assert f.nonnegative(strictly) and not positive(strictly)
    signed = entry(Z, ROW, J)
    for p in (
        total(square, J) - 2 * total(square * later, J),
        total(signed, J) - total(signed * later, J),
        total(square, J) - total(square * signed, J),
    ):
        assert not f.nonnegative(p)
    before = total(square, J) - total(square * later, J) - total(square * delta(J, t), J)
    assert not positive(before)


def test_a_root_of_what_may_be_0_is_0_there():
    square = total(entry(Z, ROW, J) ** 2, J)
    root = f.power_of(square, Fraction(1, 2))
    assert root * root == square and root != square and f.nonnegative(root) and not positive(root)
    assert f.is_zero(root) == f.is_zero(square) and not (root * f.is_zero(root)).terms
    assert root * f.reciprocal(root) == 1 - f.is_zero(square)
    with pytest.raises(Refused, match="not known to be positive"):
        f.power_of(entry(Z, ROW, J), Fraction(1, 2))
    with pytest.raises(Refused, match="not known to differ from 0"):
        f.power_of(square, Fraction(-1, 2))


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
