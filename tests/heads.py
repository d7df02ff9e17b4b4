"""Draws inputs of a linear head, computes its loss from all logits, and compares derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xent_jax
from tests.chunks import chunks_of
from xent_jax import forward_mode

WIDTH, CLASSES = 5, 11
REDUCTIONS = ("mean", "sum", "none")

reductions = pytest.mark.parametrize("reduction", REDUCTIONS)
modes = pytest.mark.parametrize("module", [xent_jax, forward_mode], ids=["vjp", "jvp"])


def drawn(batch, seed=0, classes=CLASSES):
    """Draws inputs, a kernel, a bias and labels."""
    rng = np.random.default_rng(seed)
    shapes = (*batch, WIDTH), (WIDTH, classes), (classes,)
    floats = [jnp.asarray(rng.normal(size=shape)) for shape in shapes]
    return *floats, jnp.asarray(rng.integers(0, classes, batch), jnp.int32)


def held(
    x, w, y, bias=None, where=None, *, logit_softcap=None, temperature=1.0, reduction="mean",
    **given,
):  # fmt: skip
    """Returns the head's loss from all logits; JAX can differentiate it in either mode."""
    z = x @ w if bias is None else x @ w + bias
    z = z if logit_softcap is None else forward_mode.softcap(z, logit_softcap)
    loss = forward_mode.softmax_cross_entropy_with_integer_labels
    return loss(z / temperature, y, where=where, reduction=reduction, **given)


def plain(z, y):
    """Returns the loss of each token, in plain JAX."""
    return jax.nn.logsumexp(z, -1) - jnp.take_along_axis(z, y[..., None], -1)[..., 0]


def weights(out):
    """Returns a cotangent that weighs every entry differently."""
    return jnp.cos(1.0 + jnp.arange(out.size, dtype=out.dtype)).reshape(out.shape)


def weighed(out):
    """Returns a sum that weighs every floating-point entry differently; NaN counts as 0."""
    floating = [x for x in jax.tree.leaves(out) if jnp.issubdtype(x.dtype, jnp.floating)]
    return sum(jnp.nansum(x * weights(x)) for x in floating)


def pulled(loss, *args):
    """Returns losses and the gradients of their weighed sum, with None for integer arguments."""
    out, pull = jax.vjp(loss, *args)
    gradients = pull(weights(out))
    return out, jax.tree.map(lambda g: None if g.dtype == jax.dtypes.float0 else g, gradients)


def derivatives(loss, *args):
    """Returns what ``pulled`` does, from one compiled program."""
    return jax.jit(lambda *args: pulled(loss, *args))(*args)


def reduced(losses, reduction):
    return {"mean": jnp.mean, "sum": jnp.sum, "none": lambda x: x}[reduction](losses)


def agree(run, head, reference, size, digits=12):
    """Asserts that ``run`` gives the same for a head, in chunks of ``size``, and its reference."""
    with chunks_of(size):
        found = run(head)
    same(found, run(reference), digits)


def same(got, wanted, digits=12):
    got, wanted = jax.tree.leaves(got), jax.tree.leaves(wanted)
    assert len(got) == len(wanted)
    for a, b in zip(got, wanted, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(a, b, rtol=10.0**-digits, atol=10.0**-digits)
