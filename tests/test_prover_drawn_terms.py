"""Terms of the normal form that are drawn mean what they were made of, by direct evaluation."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from xent_jax.proofs import _normal_form as f
from xent_jax.proofs._normal_form import (
    ONE,
    Refused,
    delta,
    derivative,
    entry,
    fresh,
    poly,
    substitute,
    total,
)

from tests.terms import LABEL, ROW, B, Evaluation, J, K, N, W, Z, drawn_arrays, spread

_SLOW = [HealthCheck.too_slow]


def _steps():
    """Operations on terms in the indices i and j; each means what its name says."""
    masked = entry(B, ROW, J)

    def every(p):
        return total(total(p, J), ROW)

    return {
        "plus z": lambda p: p + entry(Z, ROW, J),
        "times w": lambda p: p * entry(W, ROW, J),
        "times 1/2 less 1": lambda p: p * f.inverse(poly(2)) - 1,
        "exp": lambda p: f.exp(p * f.inverse(poly(4))),
        "log": lambda p: f.log(p * p + 1),
        "softplus": lambda p: f.log(f.exp(p) + 1),
        "inverse": lambda p: f.inverse(p * p + entry(W, ROW, J)),
        "sum over j": lambda p: total(p, J) + entry(Z, ROW, J),
        "sum over i": lambda p: total(p, ROW) * entry(W, ROW, J),
        "normalise": lambda p: f.exp(p) * f.inverse(total(f.exp(p), J)),
        "at the label": lambda p: substitute(p, {J: poly(LABEL)}) - p,
        "hit": lambda p: delta(J, LABEL) * p + entry(Z, ROW, J) * (1 - delta(J, LABEL)),
        "mask": lambda p: masked * p + (1 - masked) * entry(Z, ROW, J),
        "where positive": lambda p: f.greater(p) * p,
        "where zero": lambda p: f.is_zero(entry(Z, ROW, J) - entry(W, ROW, J)) * p + p * p,
        "greatest": lambda p: p - f.greatest(p, ONE, J),
        "half": lambda p: f.greater(2 * f.exp(p) - total(f.exp(p), J)) + p,
        "half of all": lambda p: f.greater(2 * f.exp(p) - every(f.exp(p))) + p,
        "greatest of all": lambda p: p - f.greatest(f.greatest(p, ONE, J), ONE, ROW),
        "some row": lambda p: f.greater(total(1 - f.is_zero(total(masked, J)), ROW)) * p,
        "floor": lambda p: f.floor(p) - p,
        "norm": lambda p: f.power_of(2 * total(p * p, J), Fraction(1, 2)) - p,
        "norm cubed": lambda p: f.power_of(total(p * p, J), Fraction(3, 2)) * entry(Z, ROW, J),
        "root": lambda p: f.power_of(12 * (p * p + 1), Fraction(3, 4)),
        "deviation": lambda p: f.power_of(spread(p, J) + 1, Fraction(1, 2)) - p,
    }


def _direct(names, arrays):
    """The same operations in NumPy; at a jump both sides agree on which side they are."""
    z, w, b, y = (arrays[k] for k in "zwby")
    hit = np.arange(z.shape[1]) == y[:, None]

    def label(x):
        return np.take_along_axis(x, y[:, None], 1)

    def row(x):
        return x.sum(1, keepdims=True)

    def every(x):
        return np.broadcast_to(x, z.shape).sum()

    steps = {
        "plus z": lambda p: p + z,
        "times w": lambda p: p * w,
        "times 1/2 less 1": lambda p: p / 2 - 1,
        "exp": lambda p: np.exp(p / 4),
        "log": lambda p: np.log(p * p + 1),
        "softplus": lambda p: np.log(np.exp(p) + 1),
        "inverse": lambda p: 1 / (p * p + w),
        "sum over j": lambda p: row(p) + z,
        "sum over i": lambda p: p.sum(0, keepdims=True) * w,
        "normalise": lambda p: np.exp(p) / row(np.exp(p)),
        "at the label": lambda p: label(p) - p,
        "hit": lambda p: np.where(hit, p, z),
        "mask": lambda p: np.where(b, p, z),
        "where positive": lambda p: np.where(p > 1e-12, p, 0),
        "where zero": lambda p: np.where(z == w, p, 0) + p * p,
        "greatest": lambda p: p - p.max(1, keepdims=True),
        "half": lambda p: (2 * np.exp(p) > row(np.exp(p)) + 1e-12) + p,
        "half of all": lambda p: (2 * np.exp(p) > every(np.exp(p)) + 1e-12) + p,
        "greatest of all": lambda p: p - p.max(),
        "some row": lambda p: b.any() * p,
        "floor": lambda p: np.floor(p + 1e-9) - p,
        "norm": lambda p: np.sqrt(2 * row(p * p)) - p,
        "norm cubed": lambda p: row(p * p) ** 1.5 * z,
        "root": lambda p: (12 * (p * p + 1)) ** 0.75,
        "deviation": lambda p: np.sqrt(3 * row(p * p) - row(p) ** 2 + 1) - p,
    }
    p = z
    for name in names:
        p = steps[name](p)
    return p


_OF_ALL = ["half of all", "greatest of all", "some row"]
_ROOTS = ["root", "deviation", "norm", "norm cubed"]
_OF_ROWS = sorted(set(_steps()) - {*_OF_ALL, *_ROOTS})


def drawn(examples):
    """Settings of hypothesis that draw the same examples in each run."""
    return settings(
        max_examples=examples, deadline=None, derandomize=True, suppress_health_check=_SLOW
    )


@pytest.mark.parametrize("examples", [40, pytest.param(300, marks=pytest.mark.slow)])
def test_terms_mean_what_they_were_made_of(examples):
    names = st.lists(st.sampled_from(_OF_ROWS), min_size=1, max_size=4)
    drawn(examples)(given(names, st.integers(0, 999))(_means_what_it_was_made_of))()


@drawn(40)
@given(st.sampled_from(["plus z", "times w", "exp", "mask", "where positive", "hit"]),
       st.sampled_from(_ROOTS), st.integers(0, 999))  # fmt: skip
def test_roots_mean_what_they_were_made_of(first, root, seed):
    _means_what_it_was_made_of([first, root], seed)


@drawn(60)
@given(st.sampled_from(_OF_ROWS), st.sampled_from(_OF_ALL), st.integers(0, 999))
def test_terms_of_all_rows_mean_what_they_were_made_of(first, of_all, seed):
    _means_what_it_was_made_of([first, of_all], seed)


def _means_what_it_was_made_of(names, seed):
    p = entry(Z, ROW, J)
    try:
        for name in names:
            p = _steps()[name](p)
    except Refused:
        return
    arrays = drawn_arrays(seed)
    wanted = _direct(names, arrays)
    if not np.isfinite(wanted).all() or abs(wanted).max() > 1e6:
        return
    value = Evaluation(arrays, {"n": 2, "k": 3})
    got = [[value(p, {ROW: i, J: j}) for j in range(3)] for i in range(2)]
    np.testing.assert_allclose(got, wanted, rtol=1e-7, atol=1e-9)


def _arithmetic(h, w):
    """The operations that read the same for terms and for arrays."""
    return {
        "plus h": lambda p: p + h,
        "times h": lambda p: p * h,
        "times w": lambda p: p * w,
        "less 1": lambda p: p - 1,
        "square": lambda p: p * p,
    }


def _whole_steps():
    """Operations on small integers, whose sums cancel, so that indicators of them are often 1."""
    h, w, masked = entry(Z, ROW, J), entry(W, ROW, J), entry(B, ROW, J)
    return {
        **_arithmetic(h, w),
        "hit": lambda p: delta(J, LABEL) * p,
        "mask": lambda p: masked * p,
        "sum over j": lambda p: total(p, J),
        "square of the sum over j": lambda p: total(p, J) ** 2,
        "square of the sum over i": lambda p: total(p, ROW) ** 2,
        "where not 0": lambda p: h - f.is_zero(p) * h,
        "where above 0": lambda p: f.greater(p) * h + w,
    }


def _indicators():
    def every(p):
        return total(total(p, J), ROW)

    return {
        "is 0": f.is_zero,
        "is above 0": f.greater,
        "sum over i is 0": lambda p: f.is_zero(total(p, ROW)),
        "sum over i is above 0": lambda p: f.greater(total(p, ROW)),
        "sum is 0": lambda p: f.is_zero(every(p)),
        "sum is above 0": lambda p: f.greater(every(p)),
        "greatest is 0": lambda p: f.is_zero(f.greatest(p, ONE, J)),
        "more than half": lambda p: f.greater(2 * p - total(p, J)),
    }


def _whole_direct(arrays):
    h, w, b = (arrays[k].astype(float) for k in "zwb")
    hit = np.arange(3) == arrays["y"][:, None]

    def over(axis, x):
        return np.broadcast_to(x.sum(axis, keepdims=True), x.shape)

    return {
        **_arithmetic(h, w),
        "hit": lambda p: hit * p,
        "mask": lambda p: b * p,
        "sum over j": lambda p: over(1, p),
        "square of the sum over j": lambda p: over(1, p) ** 2,
        "square of the sum over i": lambda p: over(0, p) ** 2,
        "where not 0": lambda p: np.where(p == 0, 0, h),
        "where above 0": lambda p: np.where(p > 0, h, 0) + w,
        "is 0": lambda p: p == 0,
        "is above 0": lambda p: p > 0,
        "sum over i is 0": lambda p: over(0, p) == 0,
        "sum over i is above 0": lambda p: over(0, p) > 0,
        "sum is 0": lambda p: over((0, 1), p) == 0,
        "sum is above 0": lambda p: over((0, 1), p) > 0,
        "greatest is 0": lambda p: p.max(1, keepdims=True) + 0 * h == 0,
        "more than half": lambda p: 2 * p > over(1, p),
    }


@pytest.mark.parametrize("examples, steps", [(80, 2), pytest.param(400, 3, marks=pytest.mark.slow)])
def test_indicators_of_sums_and_of_their_powers_mean_what_they_were_made_of(examples, steps):
    names = st.lists(st.sampled_from(sorted(_whole_steps())), min_size=1, max_size=steps)
    last = st.sampled_from(sorted(_indicators()))
    of = given(names, last, st.integers(0, 999))(_indicator_means_what_it_was_made_of)
    drawn(examples)(of)()


def _indicator_means_what_it_was_made_of(names, last, seed):
    p = entry(Z, ROW, J)
    try:
        for name in names:
            p = _whole_steps()[name](p)
        p = _indicators()[last](p)
    except Refused:
        return
    for rng in map(np.random.default_rng, range(seed, seed + 5)):
        arrays = {
            "z": rng.integers(-1, 2, (2, 3)),
            "w": rng.integers(1, 3, (2, 3)),
            "b": rng.random((2, 3)) < 0.5,
            "y": rng.integers(0, 3, 2),
        }
        wanted = arrays["z"].astype(float)
        for name in (*names, last):
            wanted = _whole_direct(arrays)[name](wanted)
        value = Evaluation(arrays, {"n": 2, "k": 3})
        got = [[value(p, {ROW: i, J: j}) for j in range(3)] for i in range(2)]
        np.testing.assert_array_equal(got, wanted)


@drawn(200)
@given(
    st.lists(
        st.sampled_from(
            ["plus z", "times w", "exp", "log", "softplus", "inverse", "sum over j", "sum over i",
             "normalise", "at the label", "hit", "mask"]
        ),
        min_size=1,
        max_size=3,
    ),
    st.integers(0, 999),
)  # fmt: skip
def test_derivatives_are_those_of_the_term(names, seed):
    p = entry(Z, ROW, J)
    a, b = fresh(N), fresh(K)
    try:
        for name in names:
            p = _steps()[name](p)
        slope = derivative(p, Z, a, b)
    except Refused:
        return
    arrays = drawn_arrays(seed)
    value = Evaluation(arrays, {"n": 2, "k": 3})
    here = {ROW: 1, J: 2}

    def moved(step, place):
        z = arrays["z"].copy()
        z[place] += step
        return Evaluation({**arrays, "z": z}, {"n": 2, "k": 3})(p, here)

    for place in ((1, 2), (0, 1)):
        numeric = (8 * (moved(1e-3, place) - moved(-1e-3, place))
                   - (moved(2e-3, place) - moved(-2e-3, place))) / 12e-3  # fmt: skip
        if abs(numeric) > 1e6:
            return
        got = value(slope, {**here, a: place[0], b: place[1]})
        assert got == pytest.approx(numeric, rel=1e-5, abs=1e-7)
