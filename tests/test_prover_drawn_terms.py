"""Drawn terms of the normal form have the values of the operations that made them."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from xent_jax.proofs import _normal_form as f
from xent_jax.proofs._normal_form import Refused, delta, derivative, entry, fresh, poly

from tests.draws import draws
from tests.terms import LABEL, ROW, B, Evaluation, J, K, N, W, Z, drawn_arrays

SIZES = {"n": 2, "k": 3}


class Terms:
    """The operations that the steps below use, for terms in the indices i and j."""

    z, w, b = entry(Z, ROW, J), entry(W, ROW, J), entry(B, ROW, J)
    hit, k, indices = delta(J, LABEL), K, {"i": ROW, "j": J}
    exp, log, floor = map(staticmethod, (f.exp, f.log, f.floor))
    is_zero, above_zero = map(staticmethod, (f.is_zero, f.greater))

    def inverse(self, p):
        return f.inverse(poly(p))

    def power(self, p, exponent):
        return f.power_of(p, Fraction(exponent))

    def sum(self, p, over):
        return f.total(p, self.indices[over])

    def greatest(self, p, over):
        return f.greatest(p, f.ONE, self.indices[over])

    def at_label(self, p):
        return f.substitute(p, {J: poly(LABEL)})


class Numbers:
    """The same operations on NumPy arrays; floor and ``> 0`` tolerate the rounding of floats."""

    k, axes = SIZES["k"], {"i": 0, "j": 1}
    exp, log, power = map(staticmethod, (np.exp, np.log, np.power))

    def __init__(self, arrays):
        self.z, self.w, self.b = (arrays[name].astype(float) for name in "zwb")
        self.label = arrays["y"][:, None]
        self.hit = 1.0 * (np.arange(self.k) == self.label)

    def inverse(self, p):
        return 1 / p

    def floor(self, p):
        return np.floor(p + 1e-9)

    def is_zero(self, p):
        return 1.0 * (p == 0)

    def above_zero(self, p):
        return 1.0 * (p > 1e-12)

    def sum(self, p, over):
        return np.broadcast_to(p.sum(self.axes[over], keepdims=True), p.shape)

    def greatest(self, p, over):
        return np.broadcast_to(p.max(self.axes[over], keepdims=True), p.shape)

    def at_label(self, p):
        return np.broadcast_to(np.take_along_axis(p, self.label, 1), p.shape)


def of_all(o, p):
    """Returns the sum of p over all rows and classes."""
    return o.sum(o.sum(p, "j"), "i")


STEPS = {
    "plus z": lambda o, p: p + o.z,
    "times w": lambda o, p: p * o.w,
    "times 1/2 less 1": lambda o, p: p * o.inverse(2) - 1,
    "exp": lambda o, p: o.exp(p * o.inverse(4)),
    "log": lambda o, p: o.log(p * p + 1),
    "softplus": lambda o, p: o.log(o.exp(p) + 1),
    "inverse": lambda o, p: o.inverse(p * p + o.w),
    "sum over j": lambda o, p: o.sum(p, "j") + o.z,
    "sum over i": lambda o, p: o.sum(p, "i") * o.w,
    "normalise": lambda o, p: o.exp(p) * o.inverse(o.sum(o.exp(p), "j")),
    "at the label": lambda o, p: o.at_label(p) - p,
    "hit": lambda o, p: o.hit * p + o.z * (1 - o.hit),
    "mask": lambda o, p: o.b * p + (1 - o.b) * o.z,
    "where positive": lambda o, p: o.above_zero(p) * p,
    "where zero": lambda o, p: o.is_zero(o.z - o.w) * p + p * p,
    "greatest": lambda o, p: p - o.greatest(p, "j"),
    "half": lambda o, p: o.above_zero(2 * o.exp(p) - o.sum(o.exp(p), "j")) + p,
    "floor": lambda o, p: o.floor(p) - p,
}
ROOTS = {
    "norm": lambda o, p: o.power(2 * o.sum(p * p, "j"), 0.5) - p,
    "norm cubed": lambda o, p: o.power(o.sum(p * p, "j"), 1.5) * o.z,
    "root": lambda o, p: o.power(12 * (p * p + 1), 0.75),
    "deviation": lambda o, p: (
        o.power(o.k * o.sum(p * p, "j") - o.sum(p, "j") ** 2 + 1, 0.5) - p
    ),
}  # fmt: skip
OF_ALL_ROWS = {
    "half of all": lambda o, p: o.above_zero(2 * o.exp(p) - of_all(o, o.exp(p))) + p,
    "greatest of all": lambda o, p: p - o.greatest(o.greatest(p, "j"), "i"),
    "some row": lambda o, p: o.above_zero(o.sum(1 - o.is_zero(o.sum(o.b, "j")), "i")) * p,
}
OF_INTEGERS = {
    "plus h": lambda o, p: p + o.z,
    "times h": lambda o, p: p * o.z,
    "times w": lambda o, p: p * o.w,
    "less 1": lambda o, p: p - 1,
    "square": lambda o, p: p * p,
    "hit": lambda o, p: o.hit * p,
    "mask": lambda o, p: o.b * p,
    "sum over j": lambda o, p: o.sum(p, "j"),
    "square of the sum over j": lambda o, p: o.sum(p, "j") ** 2,
    "square of the sum over i": lambda o, p: o.sum(p, "i") ** 2,
    "where not 0": lambda o, p: o.z - o.is_zero(p) * o.z,
    "where above 0": lambda o, p: o.above_zero(p) * o.z + o.w,
}
"""Steps on small integers, whose sums often cancel, so that the indicators are often 1."""
INDICATORS = {
    "is 0": lambda o, p: o.is_zero(p),
    "is above 0": lambda o, p: o.above_zero(p),
    "sum over i is 0": lambda o, p: o.is_zero(o.sum(p, "i")),
    "sum over i is above 0": lambda o, p: o.above_zero(o.sum(p, "i")),
    "sum is 0": lambda o, p: o.is_zero(of_all(o, p)),
    "sum is above 0": lambda o, p: o.above_zero(of_all(o, p)),
    "greatest is 0": lambda o, p: o.is_zero(o.greatest(p, "j")),
    "more than half": lambda o, p: o.above_zero(2 * p - o.sum(p, "j")),
}


def after(steps, o):
    """Returns the result of the steps on z, for the operations o on terms or on numbers."""
    p = o.z
    for step in steps:
        p = step(o, p)
    return p


def check(steps, all_arrays, rtol, atol):
    """Asserts that the steps, unless refused, give equal numbers on terms and on arrays."""
    try:
        term = after(steps, Terms())
    except Refused:
        return
    for arrays in all_arrays:
        wanted = after(steps, Numbers(arrays))
        if not np.isfinite(wanted).all() or abs(wanted).max() > 1e6:
            return
        value = Evaluation(arrays, SIZES)
        got = [[value(term, {ROW: i, J: j}) for j in range(3)] for i in range(2)]
        np.testing.assert_allclose(got, wanted, rtol, atol)


def one_of(names):
    return st.sampled_from(sorted(names))


def some_of(names, most):
    return st.lists(one_of(names), min_size=1, max_size=most)


BEFORE_ROOTS = ["plus z", "times w", "exp", "mask", "where positive", "hit"]


@pytest.mark.parametrize(
    ("examples", "drawn_names"),
    [
        pytest.param(40, some_of(STEPS, 4), id="40"),
        pytest.param(300, some_of(STEPS, 3), id="300", marks=pytest.mark.slow),
        pytest.param(40, st.tuples(one_of(BEFORE_ROOTS), one_of(ROOTS)), id="roots"),
        pytest.param(60, st.tuples(one_of(STEPS), one_of(OF_ALL_ROWS)), id="of all rows"),
    ],
)
def test_terms_mean_what_they_were_made_of(examples, drawn_names):
    @draws(examples)
    @given(drawn_names, st.integers(0, 999))
    def means_what_it_was_made_of(names, seed):
        steps = STEPS | ROOTS | OF_ALL_ROWS
        check([steps[n] for n in names], [drawn_arrays(seed)], rtol=1e-7, atol=1e-9)

    means_what_it_was_made_of()


def integers(rng):
    return {
        "z": rng.integers(-1, 2, (2, 3)),
        "w": rng.integers(1, 3, (2, 3)),
        "b": rng.random((2, 3)) < 0.5,
        "y": rng.integers(0, 3, 2),
    }


@pytest.mark.parametrize("examples, most", [(80, 2), pytest.param(400, 3, marks=pytest.mark.slow)])
def test_indicators_of_sums_and_of_their_powers_mean_what_they_were_made_of(examples, most):
    @draws(examples)
    @given(some_of(OF_INTEGERS, most), one_of(INDICATORS), st.integers(0, 999))
    def means_what_it_was_made_of(names, last, seed):
        steps = [*(OF_INTEGERS[n] for n in names), INDICATORS[last]]
        rngs = map(np.random.default_rng, range(seed, seed + 5))
        check(steps, map(integers, rngs), rtol=0, atol=0)

    means_what_it_was_made_of()


DIFFERENTIATED = (
    "plus z", "times w", "exp", "log", "softplus", "inverse", "sum over j", "sum over i",
    "normalise", "at the label", "hit", "mask",
)  # fmt: skip


@draws(200)
@given(some_of(DIFFERENTIATED, 3), st.integers(0, 999))
def test_derivatives_are_those_of_the_term(names, seed):
    a, b = fresh(N), fresh(K)
    try:
        p = after([STEPS[n] for n in names], Terms())
        slope = derivative(p, Z, a, b)
    except Refused:
        return
    arrays = drawn_arrays(seed)
    here = {ROW: 1, J: 2}

    def moved(step, place):
        z = arrays["z"].copy()
        z[place] += step
        return Evaluation({**arrays, "z": z}, SIZES)(p, here)

    for place in ((1, 2), (0, 1)):
        numeric = (8 * (moved(1e-3, place) - moved(-1e-3, place))
                   - (moved(2e-3, place) - moved(-2e-3, place))) / 12e-3  # fmt: skip
        if abs(numeric) > 1e6:
            return
        got = Evaluation(arrays, SIZES)(slope, {**here, a: place[0], b: place[1]})
        assert got == pytest.approx(numeric, rel=1e-5, abs=1e-7)
