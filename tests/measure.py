"""The numerical contract's bounds, and what runs the library and compares it with them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xent_jax
from tests import exact
from tests.cases import x64

# In ulp of the result's own dtype.
LOSS = 3
LABEL = {"float32": 4, "float64": 4, "bfloat16": 0.51, "float16": 0.51}
OTHERS = {"float32": 6, "float64": 8, "bfloat16": 0.51, "float16": 0.51}
SOFT = {"float32": 6, "float64": 6, "bfloat16": 0.51, "float16": 0.51}
HESSIAN_ENTRY = 8
HESSIAN_PRODUCT = 5

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


def integer_errors(losses, gradients, references, y):
    """(loss, label, worst of the others) of each row, in ulp."""
    for loss, gradient, want, label in zip(losses, gradients, references, y, strict=True):
        error = exact.ulps(gradient, want.gradient)
        others = np.delete(error, label).max(initial=0)
        yield exact.ulps(loss, want.loss).item(), error[label], others
