"""Defines the bounds of the accuracy contract, and measures the library against them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xent_jax
from tests import exact
from tests.cases import x64

# The bounds are in ulp of the result's own dtype. In float32 and float64, g / 2 ulp are added for a
# gap of g nats that is more than FAR: how far the label's logit leads, or how far the class of a
# gradient's component is below the largest logit. For the log of a sum without a label, it is how
# far the largest logit leads.
FAR = {"float32": 64, "float64": 512}
LOSS = 6
TIES = 26  # added in rows where dozens of classes tie just below half a place of the sum
LABEL = {"float32": 6, "float64": 6, "bfloat16": 0.51, "float16": 0.51}
OTHERS = {"float32": 8, "float64": 8, "bfloat16": 0.51, "float16": 0.51}
SOFT = {"float32": 6, "float64": 6, "bfloat16": 0.51, "float16": 0.51}
HESSIAN_ENTRY = 8
HESSIAN_PRODUCT = 6  # plus half of any gap

dtypes = pytest.mark.parametrize("dtype", list(OTHERS))
wide_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


def reverse(loss, z, *args):
    """Returns losses and gradients in reverse mode."""
    losses, pull = jax.vjp(lambda z: loss(z, *args), z)
    return losses, pull(jnp.ones_like(losses))[0]


def forward(loss, z, *args):
    """Returns losses and gradients in forward mode; gradients of half precision are float32."""
    return loss(z, *args), jax.vmap(jax.jacfwd(loss))(z, *args)


PATHS = {
    "default": (xent_jax, reverse),
    "forward_mode": (xent_jax.forward_mode, forward),
    "forward_mode, reversed": (xent_jax.forward_mode, reverse),
}
# The modes treat float16 as they treat bfloat16, so float16 is tested in the default mode only.
paths = pytest.mark.parametrize(
    "dtype, path",
    [(d, p) for p in PATHS for d in OTHERS if p == "default" or d != "float16"],
)


def accumulator(dtype):
    """Returns the dtype in which the library computes results of this dtype."""
    return "float64" if dtype == "float64" else "float32"


def run(function, dtype, *args):
    """Runs a compiled function, with float64 enabled, on arrays; the first must have ``dtype``."""
    with x64():
        args = [jnp.asarray(a) for a in args]
        assert args[0].dtype == dtype
        return jax.tree.map(np.asarray, jax.jit(function)(*args))


def excesses(errors, bound):
    """Returns {row: error} for errors beyond the bound; tests assert that it is empty."""
    return {name: float(round(e, 3)) for name, e in errors.items() if not e <= bound}


def lead(gap):
    """Returns how far the largest logit is above the second largest."""
    return np.sort(gap)[1] if len(gap) > 1 else 0.0


def beyond_gap(got, want, gap, scale=None):
    """Returns the error in ulp, minus half the gap if it is above FAR; not in half precision."""
    far = np.asarray(gap) > FAR.get(str(got.dtype), np.inf)
    return exact.ulps(got, want, scale) - np.where(far, gap, 0) / 2


def integer_errors(losses, gradients, references, y):
    """Yields each row's errors of (loss, label, worst other), in ulp beyond what gaps allow."""
    for loss, gradient, want, label in zip(losses, gradients, references, y, strict=True):
        leads = lead(want.gap) if want.gap[label] == 0 else 0.0
        gap = np.where(np.arange(len(gradient)) == label, leads, want.gap)
        error = beyond_gap(gradient, want.gradient, gap)
        others = np.delete(error, label).max(initial=0)
        yield beyond_gap(loss, want.loss, leads).item(), error[label], others
