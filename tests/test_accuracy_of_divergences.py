"""The divergences of logits keep the accuracy contract, on pairs of hard rows."""

import functools

import flint
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flint import arb

from tests import exact
from tests.hard_rows import CLASSES, stacked
from tests.measure import PATHS, accumulator, dtypes, excesses, run
from xent_jax._two_rows import log_ratios_to_mixture

# In ulp of the size of the terms, which the difference of the two rows sets: see
# ``exact.softmax_divergence``.
BOUND = 10
ROUNDED = 0.51  # for half precision, which is computed in float32 and rounded once


@functools.cache
def pairs(dtype):
    """Returns {name: (logits, target logits)}.

    These are pairs of hard rows, hard rows with a copy that is moved, and confident rows.
    """
    rng = np.random.default_rng(6)
    names, z, _ = stacked(dtype)
    finite = np.isfinite(z.astype(np.float64)).all(axis=1)
    names, z = np.array(names)[finite], z[finite]
    out = {f"{a}; {b}": (x, y) for a, b, x, y in zip(names, names[1:], z, z[1:], strict=False)}
    for apart in (1, 1e-2, 1e-4):
        for name, row in zip(names, z, strict=True):
            moved = row.astype(np.float64) + apart * rng.normal(size=CLASSES)
            out[f"{name}; {apart} away"] = row, moved.astype(row.dtype)
    for p in (1e-3, 1e-6, 1e-9):
        confident = np.log(p) + rng.normal(size=(2, CLASSES)) - np.log(CLASSES)
        confident[:, 3] = 0
        out[f"both at 1 - {p:g}"] = tuple(confident.astype(jnp.dtype(dtype)))
    return out


@functools.cache
def errors(dtype, path, temperature, beta=None):
    """Returns {quantity: {pair: ulp}}, and the dtype of the gradients to the logits.

    The divergence is Jensen-Shannon with this beta, or KL if it is None.
    """
    module, _ = PATHS[path]
    compared = dict(list(pairs(dtype).items())[:: 1 if beta is None else 2])
    z, w = (np.stack(x) for x in zip(*compared.values(), strict=True))
    numbers = [np.asarray(x, accumulator(dtype)) for x in (temperature, beta) if x is not None]

    def loss(z, w, t, b=None):
        if b is None:
            return module.softmax_kl_divergence(z, w, temperature=t)
        return module.softmax_jensen_shannon_divergence(z, w, temperature=t, beta=b)

    gradient = jax.jacfwd if path == "forward_mode" else jax.grad
    wanted, fixed = tuple(range(2 + len(numbers))), [None] * len(numbers)
    both = jax.vmap(lambda *a: (loss(*a), gradient(loss, wanted)(*a)), (0, 0, *fixed))
    losses, gradients = run(both, dtype, z, w, *numbers)
    assert losses.dtype == accumulator(dtype)
    of_which = ("loss", "logits", "target", "temperature", "beta")[: 1 + len(wanted)]
    found = {of: {} for of in of_which}
    info = jnp.finfo(accumulator(dtype))
    least = float(info.tiny) / float(info.eps) ** 2  # below it a term may be flushed to 0
    reference = exact.softmax_divergence if beta is None else exact.softmax_jensen_shannon
    for i, (name, (row, target)) in enumerate(compared.items()):
        want = reference(row, target, *numbers)
        # At a temperature other than 1, each logit is rounded twice, because XLA multiplies by
        # 1 / T. An exponential is then wrong by a unit for each nat of the gap.
        gap = 0 if temperature == 1 else want.gap
        got, right = (losses[i], *(g[i] for g in gradients)), (want.loss, *want.gradients)
        for of, a, b, scale in zip(found, got, right, (want.loss_scale, *want.scales), strict=True):
            seen = np.asarray(scale >= least, bool)
            error = exact.ulps(a, b, scale) - (gap if a.dtype.itemsize > 2 else 0)
            error = np.where(seen, error, 0)
            found[of][name] = error.max()
    return found, str(gradients[0].dtype)


temperatures = pytest.mark.parametrize("temperature", [1.0, 3.0, 0.3])


def check(found, result):
    for quantity, by_pair in found.items():
        of_logits = quantity in ("logits", "target")
        half = of_logits and result in ("bfloat16", "float16")
        assert not excesses(by_pair, ROUNDED if half else BOUND), quantity


@dtypes
@temperatures
def test_divergence(dtype, temperature):
    check(*errors(dtype, "default", temperature))


def test_divergence_in_forward_mode():
    check(*errors("float32", "forward_mode", 1.0))


@pytest.mark.parametrize(
    "dtype, beta",
    [("float32", 0.5), ("float32", 2.0**-10), ("float64", 0.9375), ("bfloat16", 0.1)],
)
def test_jensen_shannon_divergence(dtype, beta):
    check(*errors(dtype, "default", 1.0, beta))


def test_jensen_shannon_divergence_in_forward_mode():
    check(*errors("float32", "forward_mode", 1.0, 0.25))


def test_confident_alike_keeps_its_digits():
    """Errors are small relative to the result, of which log_softmax and softmax keep no digit."""
    z, w = (np.array([20.5, 0.3, -0.1], np.float32) + d for d in (0, np.float32([0.5, 0.25, 0])))
    want = exact.softmax_divergence(z, w, 1.0)
    gradient = jax.value_and_grad(PATHS["default"][0].softmax_kl_divergence, (0, 1))
    loss, gradients = run(gradient, "float32", z, w)
    wanted = want.loss, *want.gradients[:2]
    assert all(exact.ulps(*p).max() <= 20 for p in zip((loss, *gradients), wanted, strict=True))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("beta", [0.5, 0.9375, 2.0**-10])
def test_log_ratios_to_a_mixture(dtype, beta):
    """The relative error is small, however far apart or alike the two probabilities are."""
    rng = np.random.default_rng(0)
    size = np.concatenate([10 ** rng.uniform(-6, 3, 100), rng.uniform(0, 2, 100)])
    d = np.concatenate([size, -size]).astype(dtype)
    got = run(jax.vmap(log_ratios_to_mixture, (0, None)), dtype, d, np.asarray(beta, dtype))
    with flint.ctx.workdps(1000):  # enough to hold 1 + exp(1000)
        x = exact.exact(d)
        want = (
            [-arb.log1p((1 - beta) * arb.expm1(-a)) for a in x],
            [-arb.log1p(beta * arb.expm1(a)) for a in x],
        )
        for found, true in zip(got, want, strict=True):
            # expm1 is wrong by up to 2 units; the product and log1p add one each.
            assert exact.ulps(found, np.array(true)).max() <= 8
