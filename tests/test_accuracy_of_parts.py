"""Softmax, log-softmax, log-sum-exp, the entropy and the sigmoid loss keep the contract."""

import functools

import numpy as np
import pytest

import xent_jax
from tests import exact
from tests.hard_rows import by_size, hard_rows
from tests.measure import (
    LOSS,
    OTHERS,
    SOFT,
    accumulator,
    beyond_gap,
    dtypes,
    excesses,
    forward,
    lead,
    reverse,
    run,
)

# In ulp. log-sum-exp is the sum of m and log S; its bound is relative to |m| + log S, which
# is log-sum-exp itself unless m < 0. The bounds of softmax (which is log-sum-exp's gradient) and
# log-softmax are relative to each component, and half of the gap is added.
LOGSUMEXP = 2
ENTROPY = 4  # its sum has as many terms as there are classes
SOFTMAX = LOG_SOFTMAX = OTHERS

modules = pytest.mark.parametrize(
    "module, derivative",
    [(xent_jax, reverse), (xent_jax.forward_mode, forward)],
    ids=["default", "forward_mode"],
)


@functools.cache
def row(dtype, name):
    return exact.softmax(hard_rows(dtype)[name][0])


def errors_on_hard_rows(function, dtype, error):
    """Returns {row: ulp}; ``error`` takes the function's results, the row and its exact softmax."""
    errors = {}
    for names, z, _ in by_size(hard_rows(dtype)):
        for name, row_z, *got in zip(names, z, *run(function, dtype, z), strict=True):
            errors[name] = np.max(error(got, row_z, row(dtype, name)))
    return errors


@dtypes
@modules
def test_logsumexp_and_its_gradient(dtype, module, derivative):
    def error(got, z, row):
        assert got[0].dtype == accumulator(dtype)
        lse = exact.ulps(got[0], row.lse, row.lse_scale) / LOGSUMEXP
        # A float32 gradient of half-precision logits may lose a unit for each nat of the gap.
        more = row.gap if got[1].dtype == "float32" and dtype != "float32" else 0
        p = np.max(beyond_gap(got[1], row.p, row.gap) - more)
        return max(lse, p / SOFTMAX[str(got[1].dtype)])

    function = functools.partial(derivative, module.logsumexp)
    assert not excesses(errors_on_hard_rows(function, dtype, error), 1)


@dtypes
def test_softmax(dtype):
    def function(z):
        return (xent_jax.softmax(z),)

    def error(got, z, row):
        return beyond_gap(got[0], row.p, row.gap)

    errors = errors_on_hard_rows(function, dtype, error)
    assert not excesses(errors, SOFTMAX[dtype])


@dtypes
def test_log_softmax(dtype):
    def error(got, z, row):
        errors = exact.ulps(got[0], (exact.exact(z) - row.shift) - row.log_total)
        return errors - (lead(row.gap) / 2 if got[0].dtype.itemsize > 2 else 0)

    errors = errors_on_hard_rows(lambda z: (xent_jax.log_softmax(z),), dtype, error)
    assert not excesses(errors, LOG_SOFTMAX[dtype])


@dtypes
@modules
def test_entropy_of_logits(dtype, module, derivative):
    """The entropy is the mean of m - z under p, plus log S, so that its terms cannot cancel."""

    def error(got, z, row):
        assert got[0].dtype == accumulator(dtype)
        gaps = row.shift - exact.exact(z)[row.p > 0]
        wanted = row.log_total + sum(row.p[row.p > 0] * gaps)
        return exact.ulps(got[0], wanted) - (lead(row.gap) / 2 if got[0].dtype == dtype else 0)

    function = functools.partial(derivative, module.softmax_entropy)
    assert not excesses(errors_on_hard_rows(function, dtype, error), ENTROPY)


# ------------------------------------------------------------------ sigmoid

LABELS = [0.0, 1.0, 0.5, 0.1, 0.999, 1e-6, 1e-20]


@functools.cache
def binary_cases(dtype):
    """Returns logits of every size, each with every label."""
    rng = np.random.default_rng(6)
    sizes = np.concatenate([10.0 ** np.arange(-6, 5), [0.3, 0.7, 3, 20, 40, 60, 80, 85]])
    sizes = sizes * rng.uniform(0.9, 1.0, len(sizes))
    z = np.concatenate([sizes, -sizes, [0.0, np.log(3)]])
    z, t = (a.ravel() for a in np.meshgrid(z, LABELS))
    return z.astype(dtype), t.astype(accumulator(dtype))


def binary_errors(dtype, pos_weight, module, derivative):
    """Returns {(logit, label): ulp} of losses and of gradients, and the gradients' dtype."""
    z, t = binary_cases(dtype)

    def function(z, t):
        return module.sigmoid_binary_cross_entropy(z, t, pos_weight=pos_weight)

    losses, gradients = run(functools.partial(derivative, function), dtype, z, t)
    assert losses.dtype == accumulator(dtype)
    of_losses, of_gradients = {}, {}
    for loss, gradient, *case in zip(losses, gradients, z, t, strict=True):
        want = exact.binary_cross_entropy(*case, 1 if pos_weight is None else pos_weight)
        key = tuple(map(float, case))
        of_losses[key] = exact.ulps(loss, want.loss).item()
        of_gradients[key] = exact.ulps(gradient, want.gradient, want.gradient_scale).item()
    return of_losses, of_gradients, str(gradients.dtype)


@dtypes
@modules
@pytest.mark.parametrize("pos_weight", [None, 3.0])
def test_sigmoid_binary_cross_entropy(dtype, pos_weight, module, derivative):
    """The bound is lower for a hard label, because one of the gradient's two terms is 0."""
    losses, gradients, result = binary_errors(dtype, pos_weight, module, derivative)
    assert not excesses(losses, LOSS)
    assert not excesses(gradients, SOFT[result])
    hard = {case: error for case, error in gradients.items() if case[1] in (0, 1)}
    assert not excesses(hard, min(2, SOFT[result]))
