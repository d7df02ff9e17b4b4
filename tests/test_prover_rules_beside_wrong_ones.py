"""For each function that is read, a backward that is its derivative, beside some that are not."""

import re
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax, nn
from jax.nn import sigmoid
from xent_jax.proofs import array, labels, prove_equal, prove_jvp, prove_vjp

from tests.rules import with_backward
from tests.terms import agree, as_terms

ROW, MATRIX = {"x": array("n")}, {"x": array("n d")}
POSITIVE = {"x": array("n d", positive=True)}
TWO = {"n": 2}


class Rule(NamedTuple):
    """A function, its derivative as ``(g, *args)``, and others that are not."""

    value: Any
    args: dict
    right: Any
    wrong: tuple
    least: dict | None = None


def verdict(rule, backward):
    fun = with_backward(rule.value, backward)
    wrt = tuple(name for name, spec in rule.args.items() if spec.sort != "index")
    return prove_vjp(fun, rule.args, wrt, least=rule.least, timeout=60)


def gelu(x):
    return nn.gelu(x, approximate=False)


def density(x):
    return jnp.exp(-x * x / 2) / jnp.sqrt(2 * jnp.pi)


def distribution(x):
    return (1 + lax.erf(x / jnp.sqrt(2.0))) / 2


def soft_sign(x):
    return x / (1 + jnp.abs(x))


def hinge(x):
    return 2 + nn.relu(3 * x)


def put(x, y, v):
    return x.at[jnp.arange(x.shape[0]), y].set(v)


def at_label(g, y):
    return jnp.take_along_axis(g, y[:, None], -1)[:, 0]


def suffix_sums(g):
    return jnp.flip(jnp.cumsum(jnp.flip(g, -1), -1), -1)


def running_logsumexp(x):
    """Returns log-sum-exps taken relative to a running maximum, as one-pass attention does."""
    m = lax.cummax(x, 1)
    before = jnp.tril(jnp.ones((x.shape[1],) * 2)) > 0
    parts = jnp.where(before, jnp.exp(x[:, None, :] - m[:, :, None]), 0.0)
    return m + jnp.log(jnp.sum(parts, -1))


def running_softmax(g, x, reverse=True):
    return (jnp.exp(x) * lax.cumsum(g * jnp.exp(-lax.cumlogsumexp(x, 1)), 1, reverse),)


def unless(x, size):
    """Returns 2 if the size is that number, else 1, without a comparison in Python."""
    return jnp.where(jnp.asarray(x.shape[0]) == size, 2.0, 1.0)


def product(x):
    return jnp.prod(x, -1)


def mean(x):
    return jnp.mean(x, -1, keepdims=True)


def fast_norm(x):
    variance = jnp.maximum(0.0, mean(x * x) - mean(x) ** 2)
    return (x - mean(x)) * lax.rsqrt(variance + 1e-6)


def fast_norm_backward(g, x, centred=1.0, spread=1.0):
    r = lax.rsqrt(mean(x * x) - mean(x) ** 2 + 1e-6)
    n = (x - mean(x)) * r
    return (r * (g - centred * mean(g) - spread * n * mean(g * n)),)


RULES = {
    "gelu": Rule(gelu, ROW, lambda g, x: (g * (distribution(x) + x * density(x)),), (
        lambda g, x: (g * (distribution(x) + density(x)),),
        lambda g, x: (g * (distribution(x) + x * 0.39894 * jnp.exp(-x * x / 2)),),
        lambda g, x: (g * sigmoid(1.702 * x),),
    )),
    "log2": Rule(jnp.log2, POSITIVE, lambda g, x: (g / (x * jnp.log(2.0)),), (
        lambda g, x: (g / x,),
        lambda g, x: (g / (x * jnp.log(3.0)),),
    )),
    "atan2": Rule(jnp.arctan2, ROW | {"y": array("n", positive=True)},
        lambda g, x, y: (g * y / (x * x + y * y), -g * x / (x * x + y * y)), (
        lambda g, x, y: (g * y / (x * x + y * y), g * x / (x * x + y * y)),
        lambda g, x, y: (g / (x * x + y * y), -g * x / (x * x + y * y)),
    )),
    "sinh": Rule(jnp.sinh, ROW, lambda g, x: (g * jnp.cosh(x),), (
        lambda g, x: (g * jnp.sinh(x),),
    )),
    "soft sign": Rule(soft_sign, ROW, lambda g, x: (g / (1 + jnp.abs(x)) ** 2,), (
        lambda g, x: (g / (1 + jnp.abs(x)),),
        lambda g, x: (g / (1 + x * x),),
        lambda g, x: (g / (1 + nn.relu(x)) ** 2,),
    )),
    "a number over relu": Rule(lambda x: 1 / hinge(x), ROW,
        lambda g, x: (-3 * g * (x > 0) / hinge(x) / hinge(x),), (
        lambda g, x: (-3 * g / hinge(x) / hinge(x),),
        lambda g, x: (-g * (x > 0) / hinge(x) / hinge(x),),
    )),
    "put at labels": Rule(put,
        {"x": array("n k"), "y": labels("n", classes="k"), "v": array("n")},
        lambda g, x, y, v: (put(g, y, 0.0), None, at_label(g, y)), (
        lambda g, x, y, v: (g, None, at_label(g, y)),
        lambda g, x, y, v: (put(g, y, 1.0), None, at_label(g, y)),
        lambda g, x, y, v: (put(g, y, 0.0), None, g[:, 0]),
    )),
    "put first": Rule(lambda x, v: x.at[0].set(v), MATRIX | {"v": array("d")},
        lambda g, x, v: (g.at[0].set(0.0), g[0]), (
        lambda g, x, v: (g.at[-1].set(0.0), g[-1]),
    )),
    "roll": Rule(lambda x: jnp.roll(x, 1, 0), MATRIX, lambda g, x: (jnp.roll(g, -1, 0),), (
        lambda g, x: (jnp.roll(g, 1, 0),),
        lambda g, x: (g,),
    ), TWO),
    "roll by two": Rule(lambda x: jnp.roll(x, 2), ROW, lambda g, x: (jnp.roll(g, -2),), (
        lambda g, x: (jnp.roll(g, 2),),
        lambda g, x: (jnp.roll(g, -1),),
    )),
    "product": Rule(product, POSITIVE, lambda g, x: (g[:, None] * product(x)[:, None] / x,), (
        lambda g, x: (g[:, None] * product(x)[:, None] * jnp.ones_like(x),),
        lambda g, x: (g[:, None] * jnp.sum(x, -1, keepdims=True) / x,),
    )),
    "cumulative sum reversed": Rule(lambda x: jnp.cumsum(x * x, -1), MATRIX,
        lambda g, x: (2 * x * suffix_sums(g),), (
        lambda g, x: (2 * x * jnp.cumsum(g, -1),),
        lambda g, x: (2 * x * jnp.cumsum(jnp.flip(g, -1), -1),),
        lambda g, x: (2 * x * (suffix_sums(g) - g),),
    )),
    "cumulative sum by the whole": Rule(lambda x: jnp.cumsum(x, -1), MATRIX,
        lambda g, x: (jnp.sum(g, -1, keepdims=True) - jnp.cumsum(g, -1) + g,), (
        lambda g, x: (jnp.sum(g, -1, keepdims=True) - jnp.cumsum(g, -1),),
    )),
    "running log-sum-exp": Rule(lambda x: lax.cumlogsumexp(x, 1), MATRIX, running_softmax, (
        lambda g, x: running_softmax(g, x, reverse=False),
        lambda g, x: (jnp.exp(x - lax.cumlogsumexp(x, 1)) * suffix_sums(g),),
    )),
    "running log-sum-exp by a running maximum": Rule(running_logsumexp, MATRIX, running_softmax, (
        lambda g, x: running_softmax(g, x, reverse=False),
        lambda g, x: (g * jnp.exp(x - lax.cumlogsumexp(x, 1)),),
    )),
    "running product": Rule(lambda x: lax.cumprod(x, 1), POSITIVE,
        lambda g, x: (suffix_sums(g * lax.cumprod(x, 1)) / x,), (
        lambda g, x: (jnp.cumsum(g * lax.cumprod(x, 1), -1) / x,),
        lambda g, x: (suffix_sums(g) * lax.cumprod(x, 1) / x,),
    )),
    "norm of the fast variance": Rule(fast_norm, MATRIX, fast_norm_backward, (
        lambda g, x: fast_norm_backward(g, x, centred=0.0),
        lambda g, x: fast_norm_backward(g, x, spread=0.5),
    )),
}  # fmt: skip


@pytest.mark.parametrize("name", RULES)
def test_the_derivative_is_proved(name):
    found = verdict(RULES[name], RULES[name].right)
    assert found.proved, found


@pytest.mark.parametrize("name", RULES)
def test_what_is_no_derivative_is_not(name):
    for number, wrong in enumerate(RULES[name].wrong):
        assert verdict(RULES[name], wrong).status == "refuted", number


def test_what_is_read_means_what_jax_computes():
    def fun(x, y):
        angles = jnp.arctan2(x, 1 + y * y) * lax.erfc(y) - lax.erf(-x) + jnp.cosh(x) / jnp.sinh(1.0)
        return angles * jnp.pi / (2 + jnp.abs(x - y)) + jnp.roll(y, 1) * jnp.sqrt(2.0)

    specs = {"x": array("n"), "y": array("n")}
    rng = np.random.default_rng(0)
    inputs = {name: rng.normal(size=4) for name in specs}
    agree(fun, specs, as_terms(fun, specs), inputs, {"n": 4})


def test_sizes_below_a_shift_are_proved_apart():
    for axes in (0, (0, 1)):
        found = prove_vjp(lambda x, a=axes: jnp.roll(x, 2, a) ** 2, MATRIX, ("x",))
        assert found.proved
        assert {"n is at least 1", "d is at least 1"} <= set(found.assumptions)
    for size in (1, 2, 3):
        found = prove_equal(
            lambda x: jnp.roll(x, 3),
            lambda x, n=size: jnp.roll(x, 3) * unless(x, n),
            ROW,
            search=False,
        )
        assert not found.proved and (size == 3 or f"where n == {size}" in found.reason)


def test_running_maxima_are_those_of_the_entries_so_far():
    def greatest_so_far(x):
        before = jnp.arange(x.shape[0])[:, None] >= jnp.arange(x.shape[0])
        return jnp.max(jnp.where(before, x, -jnp.inf), -1)

    assert prove_equal(lambda x: lax.cummax(x), greatest_so_far, ROW).proved
    assert prove_equal(lambda x: lax.cummin(x), lambda x: -greatest_so_far(-x), ROW).proved
    assert prove_equal(lambda x: lax.cummax(x)[-1], jnp.max, ROW).proved
    for wrong in (
        lambda x: lax.cummax(x, reverse=True),
        lambda x: -lax.cummax(-x),
        lambda x: jnp.max(x) + 0 * x,
    ):
        assert not prove_equal(wrong, greatest_so_far, ROW, search=False).proved


def test_a_product_of_integers_must_not_overflow():
    def scaled(x, dtype):
        return x * jnp.prod(jnp.arange(3, dtype=dtype) + 1, dtype=dtype)

    assert not prove_vjp(lambda x: scaled(x, jnp.int16), ROW, ("x",), search=False).proved
    found = prove_vjp(lambda x: scaled(x, jnp.int32), ROW, ("x",))
    assert found.proved and "integer arithmetic does not leave 32 bits" in found.assumptions


def test_forward_mode_and_second_orders_of_them():
    def fun(x):
        return gelu(x) + jnp.arctan(x) * soft_sign(x)

    assert prove_jvp(fun, ROW, ("x",)).proved
    assert prove_vjp(gelu, ROW, ("x",), second_order=True).proved


def test_constants_are_roots_only_where_they_round_to_the_float():
    found = prove_equal(lambda x: x * 1.4142135 * jnp.sqrt(2.0), lambda x: 2 * x, ROW)
    assert found.proved
    assert any("1.4142135" in text for text in found.assumptions)
    assert not prove_equal(lambda x: x * 1.414213 * jnp.sqrt(2.0), lambda x: 2 * x, ROW).proved


@pytest.mark.parametrize(
    ("fun", "args", "reason"),
    [
        (product, MATRIX, "a product over an axis of x.*, which is not known to be positive"),
        (lambda x: jnp.roll(x, 20), ROW, "needs a least one"),
        (lambda x: jnp.arctan2(x, x), ROW, "an angle beside x.*, which is not known to be"),
        (lambda x: 1 / (1 - nn.relu(x)), ROW, "which is not known to differ from 0"),
    ],
)
def test_what_may_be_otherwise_is_refused(fun, args, reason):
    found = prove_vjp(fun, args, ("x",), search=False)
    assert not found.proved
    assert re.search(reason, found.reason)


def test_the_derivative_that_jax_has_of_what_is_put_at_labels():
    args = {"x": array("n k"), "y": labels("n", classes="k"), "v": array("n")}
    assert prove_vjp(lambda x, y, v: put(x, y, v * v) ** 2, args, ("x", "v")).proved
    beside = {"x": array("n k"), "y": labels("n", classes="k"), "v": array("n k")}
    assert prove_vjp(lambda x, y, v: put(x, y, at_label(v, y)), beside, ("x", "v")).proved


def test_numbers_without_a_sign_may_rise_but_not_fall():
    args = {"x": array("n"), "u": array("n", dtype=np.uint32)}
    found = prove_vjp(lambda x, u: x * (u * u + 1), args, ("x",))
    assert found.proved and "integer arithmetic does not leave 32 bits" in found.assumptions
    for falls in (lambda u: u - 1, lambda u: -u, lambda u: u + (0 - u)):
        found = prove_vjp(lambda x, u, f=falls: x * f(u), args, ("x",), search=False)
        assert found.status == "refused" and "uint32, which may overflow" in found.reason


def test_places_that_may_be_the_same_are_refused():
    args = {"x": array("k"), "y": labels("n", classes="k"), "v": array("n")}
    found = prove_vjp(lambda x, y, v: x.at[y].set(v), args, ("x", "v"))
    assert not found.proved
