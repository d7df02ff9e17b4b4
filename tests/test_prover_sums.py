"""The prover reads the library's sums: rounded once, relative to an origin, and in blocks."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from xent_jax.proofs import array, labels, prove_equal, prove_jvp

from xent_jax import _rows
from xent_jax._blocks import others_in_blocks

X = {"x": array("n k")}
BLOCKS = {"x": array("n b w"), "block": labels("n", classes="b"), "place": labels("n", classes="w")}


def sum_of(x):
    return jnp.sum(x, -1)


def sum_of_exp(x):
    return jnp.sum(jnp.exp(x), -1)


def rounded_once(x, whole_of=jnp.round, bits=0):
    """Returns the sums of rows, each rounded once; another ``whole_of`` may make them wrong."""
    plain = jnp.sum(x, axis=-1)
    c = lax.reduce_precision(1e5 / jnp.maximum(plain, 1e-30), 8, bits)
    scaled = x * c[..., None]
    rest = jnp.sum(scaled - jnp.floor(scaled), axis=-1)
    return jnp.where(plain == jnp.inf, plain, (whole_of(c * plain - rest) + rest) / c)


def relative(x, move=0.0):
    """Returns sums of exponentials, relative to the row's origin c, times ``exp(move c)``."""
    c = _rows.row_origin(jnp.max(x, axis=-1))[:, None]
    return jnp.sum(jnp.exp(x - c), axis=-1) * jnp.exp(c[:, 0] + move * c[:, 0])


def in_blocks(x, block, place, broken=0.0):
    m = jnp.max(x, (-2, -1))
    c = _rows.row_origin(m)
    return others_in_blocks(x, block, place, m - broken, c) / jnp.exp(m - c)


def but_the_label(x, block, place):
    at = lax.broadcasted_iota(block.dtype, x.shape, 1) == block[:, None, None]
    at &= lax.broadcasted_iota(place.dtype, x.shape, 2) == place[:, None, None]
    e = jnp.exp(x - jnp.max(x, (-2, -1), keepdims=True))
    return jnp.sum(jnp.where(at, 0.0, e), (-2, -1))


@jax.jit
def row_origin(x):
    """Returns the logarithm, which is NaN below 0, under the name of a function of the library."""
    return jnp.log(x)


EQUAL = {
    "all bits": (lambda x: lax.reduce_precision(x, 8, 23), lambda x: x, X),
    "rounded once": (rounded_once, sum_of, X),
    "relative to an origin": (relative, sum_of_exp, X),
    # No theorem covers this: the library does not sum in blocks at symbolic sizes.
    "in blocks": (in_blocks, but_the_label, BLOCKS),
}
UNEQUAL = {
    "another row_origin": (lambda x: x + (row_origin(x) - row_origin(x)), lambda x: x, X),
    "a unit too much": (lambda x: rounded_once(x, lambda w: jnp.round(w) + 1), sum_of, X),
    "half of it rounded": (lambda x: rounded_once(x, lambda w: jnp.round(w / 2)), sum_of, X),
    "no bits": (lambda x: lax.reduce_precision(sum_of_exp(x), 8, 0), sum_of_exp, X),
    "fewer bits of the exponent": (
        lambda x: lax.reduce_precision(sum_of_exp(x), 7, 23), sum_of_exp, X),
    # The origin is 0 for a maximum from 0 to 64, but no proof may rest on that.
    "off by the origin": (lambda x: relative(x, 0.1), sum_of_exp, X),
    "blocks without their maximum": (lambda *a: in_blocks(*a, broken=1.0), but_the_label, BLOCKS),
}  # fmt: skip


@pytest.mark.parametrize(("fun", "wanted", "args"), EQUAL.values(), ids=EQUAL)
def test_right_sums_are_proved_for_terms_of_any_sign(fun, wanted, args):
    verdict = prove_equal(fun, wanted, args)
    assert verdict.proved, verdict.reason
    assert not any("above" in note for note in verdict.assumptions)


@pytest.mark.parametrize(("fun", "wanted", "args"), UNEQUAL.values(), ids=UNEQUAL)
def test_wrong_sums_are_not_proved(fun, wanted, args):
    assert not prove_equal(fun, wanted, args).proved


def test_what_is_stopped_is_not_read():
    def loss(x):
        return jnp.sum(x) + 0 * lax.stop_gradient(jnp.sum(rounded_once(jnp.exp(x))))

    assert prove_jvp(loss, X, ("x",), lambda x: jnp.sum(x)).proved


@pytest.mark.parametrize("least", [1, 2])
def test_the_first_term_of_a_sum_that_may_be_empty_is_not_taken_to_be_in_it(least):
    def fun(x, y):
        return jnp.where(jnp.sum(x[:-1] ** 2) >= x[0] ** 2, y, 2 * y)

    args = {"x": array("n"), "y": array("")}
    verdict = prove_equal(fun, lambda x, y: y, args, least={"n": least}, search=False)
    assert verdict.proved == (least == 2)
