"""Lets hypothesis draw options, and compares a loss under them with its reference."""

import functools

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np

import xent_jax
from tests.heads import pulled
from xent_jax import forward_mode

modules = st.sampled_from([xent_jax, forward_mode])
reductions = st.sampled_from(["none", "sum", "mean"])
dtypes = st.sampled_from([jnp.float64, jnp.float32, jnp.bfloat16])
TOLERANCE = {jnp.float64: 1e-11, jnp.float32: 2e-5, jnp.bfloat16: 2e-2, jnp.float16: 3e-3}
OPTIONS = {  # options with a gradient, drawn for k classes
    "label_smoothing": lambda rng, k: rng.choice([0.0, 0.3, 1.0]),
    "z_loss": lambda rng, k: rng.uniform(0, 1),
    "class_weights": lambda rng, k: rng.uniform(0.1, 2, k),
    "gamma": lambda rng, k: rng.uniform(0.3, 4),
    "epsilon": lambda rng, k: rng.uniform(-1, 3),
}


def same(got, wanted, dtype, plain=False):
    """Asserts that two trees are equal within the dtype's tolerance, with NaN at the same places.

    If ``plain``, no option is given, and each result has the tolerance of its own dtype.
    """
    assert jax.tree.structure(got) == jax.tree.structure(wanted)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        tolerance, scale = TOLERANCE[dtype], max(1.0, np.max(np.abs(np.nan_to_num(b)), initial=0))
        if plain:
            least = 1e-12 if dtype == jnp.float64 else 2e-6
            tolerance, scale = max(least, float(jnp.finfo(a.dtype).eps)), 2
        np.testing.assert_allclose(np.float64(a), b, rtol=tolerance, atol=tolerance * scale)


@functools.partial(jax.jit, static_argnums=(0, 1))
def both_derivatives(loss, reference, floats, exact):
    """Returns the values and gradients of the loss and of its reference, in one program."""
    return pulled(loss, floats), pulled(reference, exact)
