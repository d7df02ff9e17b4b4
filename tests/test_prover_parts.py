"""Arrays taken apart, turned round, joined and reshaped: right code proved, code off by one not."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from xent_jax.proofs import array, labels, prove_equal, prove_vjp
from xent_jax.proofs._normal_form import Refused
from xent_jax.proofs._prover import decision

from tests.terms import agree, as_terms

SIZES = {"n": 5, "m": 3}
INTEGER = {"z": array("n k"), "y": labels("n", classes="k")}


def _drawn(rng):
    """A function of ``x [n, m]`` that takes it apart, turns it round, joins or reshapes it."""
    a, b, c = (int(k) for k in rng.integers(0, 3, 3))
    n, m = (lambda x: x.shape[0]), (lambda x: x.shape[1])
    return [
        lambda x: x[a : n(x) - b],
        lambda x: x.reshape(-1)[a::2] if a else x[b : b + 1],
        lambda x: lax.rev(x, (0,) if a else (0, 1)),
        lambda x: jnp.concatenate([x[b:], x[:b], x[a : a + 1]]),
        lambda x: jnp.concatenate([x[:, c:], x, x], 1)[:, a:],
        lambda x: jnp.stack([x, x * x, -x], a)[b : b + 1],
        lambda x: lax.pad(x, x.dtype.type(7), ((a - 1, b, c), (c, a - 1, b))),
        lambda x: lax.dynamic_slice(x, (a, n(x)), (n(x) - 2, m(x))),
        lambda x: lax.dynamic_update_slice(x, x[: n(x) - 2] ** 2, (a, 0)),
        lambda x: x.reshape(m(x), n(x)),
        lambda x: x.reshape(-1)[a:],
        lambda x: x.reshape(-1).reshape(m(x), 1, n(x))[a - 1 if a else 0],
        lambda x: lax.broadcast_in_dim(x, (2, n(x), m(x)), (1, 2)).reshape(2 * n(x), m(x)),
        lambda x: jnp.sum(x.reshape(-1)) + jnp.sum(jnp.concatenate([x[a:], x[:b] ** 2]), 0),
    ][int(rng.integers(14))]


def test_drawn_parts_are_read_as_jax_computes_them():
    specs, met = {"x": array("n m")}, collections.Counter()
    for seed in range(60):
        rng = np.random.default_rng(seed)
        fun, x = _drawn(rng), {"x": rng.normal(size=(5, 3))}
        with decision.noting({"n": 4, "m": 3}, {}):
            try:
                terms = as_terms(fun, specs)
            except Refused:
                met["refused"] += 1
                continue
            met["read"] += 1
            agree(fun, specs, terms, x, SIZES)
    assert met["read"] > 40, met


@pytest.mark.slow
def test_a_flat_batch_of_tokens_has_the_loss_of_its_rows():
    def flat(z, y):
        z, y = z.reshape(-1, z.shape[-1]), y.reshape(-1)
        return jnp.mean(jax.nn.logsumexp(z, -1) - jnp.take_along_axis(z, y[:, None], 1)[:, 0])

    def rows(z, y):
        at = jnp.take_along_axis(z, y[..., None], -1)[..., 0]
        return jnp.mean(jax.nn.logsumexp(z, -1) - at)

    args = {"z": array("b t v"), "y": labels("b t", classes="v")}
    assert prove_vjp(flat, args, ("z",), rows).proved


@pytest.mark.parametrize("least", [1, 2])
def test_the_first_term_of_a_sum_that_may_be_empty_is_not_taken_to_be_in_it(least):
    def fun(x, y):
        return jnp.where(jnp.sum(x[:-1] ** 2) >= x[0] ** 2, y, 2 * y)

    args = {"x": array("n"), "y": array("")}
    verdict = prove_equal(fun, lambda x, y: y, args, least={"n": least}, search=False)
    assert verdict.proved == (least == 2)
