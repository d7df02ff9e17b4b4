"""The accuracy contract of the divergence of logits, against 60 digits on pairs of hard rows."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import exact
from tests.hard_rows import CLASSES, by_size, hard_rows
from tests.measure import PATHS, accumulator, dtypes, excesses, run

# In ulp of the size of the terms, which is what the two rows differ by: see ``exact.Divergence``.
BOUND = 10
ROUNDED = 0.51  # of half precision, which is computed in float32


@functools.cache
def pairs(dtype):
    """{name: (logits, target logits)}: rows beside one another, and beside themselves moved."""
    rng = np.random.default_rng(6)
    names, z, _ = next(g for g in by_size(hard_rows(dtype)) if g[1].shape[1] == CLASSES)
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
def errors(dtype, path, temperature):
    """{quantity: {pair: ulp}} and the dtype of the gradients to the logits."""
    module, _ = PATHS[path]
    z, w = (np.stack(x) for x in zip(*pairs(dtype).values(), strict=True))
    t = np.asarray(temperature, accumulator(dtype))

    def loss(z, w, t):
        return module.softmax_kl_divergence(z, w, temperature=t)

    gradient = jax.jacfwd if path == "forward_mode" else jax.grad
    both = jax.vmap(
        lambda z, w, t: (loss(z, w, t), gradient(loss, (0, 1, 2))(z, w, t)), (0, 0, None)
    )
    losses, gradients = run(both, dtype, z, w, t)
    assert losses.dtype == accumulator(dtype)
    found = {"loss": {}, "logits": {}, "target": {}, "temperature": {}}
    info = jnp.finfo(accumulator(dtype))
    least = float(info.tiny) / float(info.eps) ** 2  # below it a term may be flushed to 0
    for i, (name, (row, target)) in enumerate(pairs(dtype).items()):
        want = exact.softmax_divergence(row, target, t)
        # Divided by another temperature than 1 each logit is rounded twice, for XLA multiplies by
        # 1 / T: an exponential is wrong by a unit for each nat of the gap.
        gap = 0 if temperature == 1 else want.gap
        got, right = (losses[i], *(g[i] for g in gradients)), (want.loss, *want.gradients)
        for of, a, b, scale in zip(found, got, right, (want.loss_scale, *want.scales), strict=True):
            seen = np.asarray(scale >= least, bool)
            error = exact.ulps(a, b, scale) - (gap if a.dtype.itemsize > 2 else 0)
            error = np.where(seen, error, 0)
            found[of][name] = error.max()
    return found, str(gradients[0].dtype)


temperatures = pytest.mark.parametrize("temperature", [1.0, 3.0, 0.3])
quantities = pytest.mark.parametrize("quantity", ["loss", "logits", "target", "temperature"])


def bound(quantity, result):
    of_logits = quantity in ("logits", "target")
    return ROUNDED if of_logits and result in ("bfloat16", "float16") else BOUND


@dtypes
@temperatures
@quantities
def test_divergence(dtype, temperature, quantity):
    found, result = errors(dtype, "default", temperature)
    assert not excesses(found[quantity], bound(quantity, result))


@quantities
def test_divergence_in_forward_mode(quantity):
    found, result = errors("float32", "forward_mode", 1.0)
    assert not excesses(found[quantity], bound(quantity, result))


def test_confident_alike_keeps_its_digits():
    """Relative to the result itself, where log_softmax and softmax leave none."""
    z, w = (np.array([20.5, 0.3, -0.1], np.float32) + d for d in (0, np.float32([0.5, 0.25, 0])))
    want = exact.softmax_divergence(z, w, 1.0)
    gradient = jax.value_and_grad(PATHS["default"][0].softmax_kl_divergence, (0, 1))
    loss, (by_z, by_w) = run(gradient, "float32", z, w)
    assert exact.ulps(loss, want.loss).item() <= 20
    assert (
        max(exact.ulps(by_z, want.gradients[0]).max(), exact.ulps(by_w, want.gradients[1]).max())
        <= 20
    )
