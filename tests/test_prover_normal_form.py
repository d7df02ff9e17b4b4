"""The rules of the normal form respect bound indices and need their side conditions."""

import itertools

import numpy as np
import pytest
from xent_jax.proofs import _normal_form as f
from xent_jax.proofs._normal_form import (
    Refused,
    Symbol,
    atom,
    delta,
    derivative,
    entry,
    fresh,
    index,
    opened,
    poly,
    substitute,
    total,
    vanishes,
)
from xent_jax.proofs._normal_form.indices import unused
from xent_jax.proofs._normal_form.questions import reduced
from xent_jax.proofs._prover.tensor import inner_axes

from tests.terms import LABEL, ROW, B, Evaluation, J, K, N, W, Z, drawn_arrays

z, w, b = entry(Z, ROW, J), entry(W, ROW, J), entry(B, ROW, J)

# ---------------------------------------------------------------- binders


def test_equal_sums_are_equal_whatever_their_index_is_called():
    a, b = fresh(K), fresh(K)
    assert total(f.exp(entry(Z, ROW, a)), a) == total(f.exp(entry(Z, ROW, b)), b)


def test_sums_of_sums_are_equal_in_whatever_order():
    """The summands are chains of arrays, and a product with deltas at labels of other indices."""
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
    s = total(f.exp(entry(Z, ROW, a) + z), a)  # j is free in s
    ((bound,),) = [[x for x in s.atoms() if x.kind == "sum"]]
    value = Evaluation(drawn_arrays(0), {"n": 2, "k": 3})
    for inner in (opened(bound)[0], unused(K)):  # not even by the name that s was opened with
        captured = substitute(s, {J: poly(inner)})
        assert value(captured, {ROW: 0, inner: 2}) == pytest.approx(value(s, {ROW: 0, J: 2}))


def test_the_derivative_to_an_entry_is_not_captured():
    inner = unused(K)
    assert derivative(total(f.exp(z), J), Z, ROW, inner) == f.exp(entry(Z, ROW, inner))


def test_inner_axes_differ_from_one_another_and_from_those_in_terms():
    a, b = inner_axes((K, K)).values()
    (c,) = inner_axes((K,), entry(Z, a, b)).values()
    assert len({a, b, c}) == 3


def test_what_is_known_at_an_index_is_not_known_of_a_bound_one():
    weight, other = Symbol("weight", "nonnegative"), index("other", N)
    here = f.greater(entry(weight, J))
    wanted = total(here * entry(Z, other, J), J)
    with f.knowing(entry(weight, unused(K))):
        assert substitute(total(here * z, J), {ROW: poly(other)}) == wanted


def test_the_square_of_a_sum_under_another_sum_is_over_two_indices():
    square = total(total(z, J) ** 2, ROW)
    rows = drawn_arrays(0)["z"].sum(1)
    value = Evaluation(drawn_arrays(0), {"n": 2, "k": 3})
    assert value(square, {}) == pytest.approx((rows**2).sum())


def test_bound_names_cannot_be_put_in_from_outside():
    a = fresh(K)
    s = total(entry(Z, ROW, a) * w, a)
    (bound,) = [x for x in s.atoms() if x.kind == "sum"]
    name = bound.args[0]
    assert substitute(s, {name: poly(J)}) == s


def test_the_product_of_two_sums_is_not_the_sum_of_the_product():
    a = fresh(K)
    once, square = total(entry(Z, ROW, a), a), total(entry(Z, ROW, a) ** 2, a)
    assert once * once != square
    value = Evaluation(drawn_arrays(0), {"n": 2, "k": 3})
    row = drawn_arrays(0)["z"][0]
    assert value(once * once, {ROW: 0}) == pytest.approx(row.sum() ** 2)


def test_the_derivative_at_an_index_that_is_summed_over_keeps_one_term():
    a, b = fresh(N), fresh(K)
    lse = f.log(total(f.exp(z), J))
    softmax = f.exp(entry(Z, ROW, b)) * f.inverse(total(f.exp(z), J))
    assert derivative(lse, Z, a, b) == delta(a, ROW) * substitute(softmax, {ROW: poly(ROW)})


def test_sums_of_sums_do_not_depend_on_the_order():
    x, u = Symbol("x", "real"), Symbol("u", "real")
    p = entry(x, ROW) * z * entry(u, J)
    assert total(total(p, ROW), J) == total(total(p, J), ROW)


# ---------------------------------------------------------------- side conditions


def _fractions():
    """Returns c, w, e = exp(z), and three sums over j of fractions with denominators c w + e."""
    c, e = f.exp(entry(Z, ROW, 0)), f.exp(z)
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
    for p in _fractions()[4:]:  # the sums with e in a numerator, which is reduced
        short = reduced(p * p + 3 * p)
        assert short != p * p + 3 * p
        # Both formulas are about a dozen operations in float64.
        assert np.isclose(value(short, {ROW: 1}), value(p * p + 3 * p, {ROW: 1}), rtol=1e-12)


def test_a_positive_factor_in_a_sum_of_any_sign_plays_its_part():
    """A factor w > 0 changes where ``sum_i (sum_j w_ij x_ij)^2`` is 0, unless x is at least 0."""
    squares = f.is_zero(total(total(z, J) ** 2, ROW))
    assert squares != f.is_zero(total(total(z, J), ROW))
    assert squares != f.is_zero(total(total(w * z, J) ** 2, ROW))
    x = entry(Symbol("x", "nonnegative"), ROW, J)
    assert f.is_zero(total(total(w * x, J) ** 2, ROW)) == f.is_zero(total(total(x, J), ROW))


def test_a_sum_over_a_mask_does_not_cancel_against_its_inverse():
    """The sum and its reciprocal are both 0 where the mask is empty, and so is their product."""
    s = total(b * f.exp(z), J)
    product = s * f.reciprocal(s)
    assert product == 1 - f.is_zero(total(b, J))


def test_the_other_classes_are_there_from_two_classes_on():
    others = total(f.exp(z), J) - f.exp(entry(Z, ROW, LABEL))
    with pytest.raises(Refused):
        f.log(others)
    two = poly(atom("dim", "k", 2))
    y, j = Symbol("y", "index", two), index("j", two)
    (label,) = entry(y, ROW).atoms()
    f.log(total(f.exp(entry(Z, ROW, j)), j) - f.exp(entry(Z, ROW, label)))


@pytest.mark.parametrize("numerator", [499, 500, 501])
def test_dominance_is_of_one_class_only_from_one_half_on(numerator):
    """Two classes cannot both have ``E_j > c S`` if c is at least 1/2; for a smaller c they can."""
    e = f.exp(z)
    j = fresh(K)
    other = substitute(e, {J: poly(j)})
    s = total(e, J)
    both = f.greater(1000 * e - numerator * s) * f.greater(1000 * other - numerator * s)
    exclusive = vanishes(both * (1 - delta(J, j)))
    assert exclusive == (numerator >= 500)


def test_an_index_of_another_dimension_is_met_where_it_is_in_range():
    i = index("i", N)
    met = total(delta(J, i) * z, J)
    assert met == entry(Z, ROW, i) * f.greater(K - i)
