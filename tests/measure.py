"""The bounds of the accuracy contract, and functions that measure the library against them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xent_jax
from tests import exact
from tests.cases import x64

# In ulp of the result's own dtype. Where it is float32 or float64, g / 2 ulp are added for a gap g
# in nats that is more than FAR: what the label's logit leads by, or what a component's class lies
# below the largest. The logarithm of a sum without a label has it for any lead of the largest.
FAR = {"float32": 64, "float64": 512}
LOSS = 6
TIES = 26  # more, in a row of which dozens of classes tie just below half a place of its sum
LABEL = {"float32": 6, "float64": 6, "bfloat16": 0.51, "float16": 0.51}
OTHERS = {"float32": 8, "float64": 8, "bfloat16": 0.51, "float16": 0.51}
SOFT = {"float32": 6, "float64": 6, "bfloat16": 0.51, "float16": 0.51}
HESSIAN_ENTRY = 8
HESSIAN_PRODUCT = 6  # and the half of any gap

dtypes = pytest.mark.parametrize("dtype", list(OTHERS))
wide_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


def reverse(loss, z, *args):
    """Losses and gradients in reverse mode."""
    losses, pull = jax.vjp(lambda z: loss(z, *args), z)
    return losses, pull(jnp.ones_like(losses))[0]


def forward(loss, z, *args):
    """The same in forward mode; the gradients of half precision are then float32."""
    return loss(z, *args), jax.vmap(jax.jacfwd(loss))(z, *args)


PATHS = {
    "default": (xent_jax, reverse),
    "forward_mode": (xent_jax.forward_mode, forward),
    "forward_mode, reversed": (xent_jax.forward_mode, reverse),
}
# float16 differs from bfloat16 in nothing that depends on the mode.
paths = pytest.mark.parametrize(
    "dtype, path",
    [(d, p) for p in PATHS for d in OTHERS if p == "default" or d != "float16"],
)


def accumulator(dtype):
    """The dtype that the computation is carried out in."""
    return "float64" if dtype == "float64" else "float32"


def run(function, dtype, *args):
    """``function`` compiled, with float64 switched on, on arrays of which the first has dtype."""
    with x64():
        args = [jnp.asarray(a) for a in args]
        assert args[0].dtype == dtype
        return jax.tree.map(np.asarray, jax.jit(function)(*args))


def excesses(errors, bound):
    """What to assert empty: the rows whose error is beyond the bound, with that error."""
    return {name: float(round(e, 3)) for name, e in errors.items() if not e <= bound}


def lead(gap):
    """What the largest logit leads by."""
    return np.sort(gap)[1] if len(gap) > 1 else 0.0


def beyond_gap(got, want, gap, scale=None):
    """The error in ulp, less the half of a gap that is far; of half precision, all of it."""
    far = np.asarray(gap) > FAR.get(str(got.dtype), np.inf)
    return exact.ulps(got, want, scale) - np.where(far, gap, 0) / 2


def integer_errors(losses, gradients, references, y):
    """(loss, label, worst of the others) of each row, in ulp, less what their gaps allow."""
    for loss, gradient, want, label in zip(losses, gradients, references, y, strict=True):
        leads = lead(want.gap) if want.gap[label] == 0 else 0.0
        gap = np.where(np.arange(len(gradient)) == label, leads, want.gap)
        error = beyond_gap(gradient, want.gradient, gap)
        others = np.delete(error, label).max(initial=0)
        yield beyond_gap(loss, want.loss, leads).item(), error[label], others
