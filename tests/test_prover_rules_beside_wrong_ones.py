"""For each function, a backward that is its derivative is proved, and others are refuted."""

import jax.numpy as jnp
import numpy as np
from jax import lax, nn
from jax.nn import sigmoid, softmax
from xent_jax.proofs import array, labels, prove_equal, prove_jvp, prove_vjp, scalar
from xent_jax.proofs._theorems import textbook as book

from tests import layers
from tests.rules import Rule, assert_proved, assert_refuted, each, verdict_on
from tests.terms import agree, as_terms

ROW, MATRIX = {"x": array("n")}, {"x": array("n d")}
POSITIVE, UNIT = {"x": array("n d", positive=True)}, {"x": array("n", unit=True)}
CHOICE = {"z": array("n k"), "y": labels("n", classes="k")}
PUT = {"x": array("n k"), "y": CHOICE["y"], "v": array("n")}
ANGLES = {"x": array("n 2*d"), "c": array("n d"), "s": array("n d")}
SCALED = {"z": array("n k"), "c": scalar()}
TWO_ROWS = {"z": array("n k"), "w": array("n k")}


def density(x):
    return jnp.exp(-x * x / 2) / jnp.sqrt(2 * jnp.pi)


def soft_sign(x):
    return x / (1 + jnp.abs(x))


def hinge(x):
    return 2 + nn.relu(3 * x)


def put(x, y, v):
    return x.at[jnp.arange(x.shape[0]), y].set(v)


def suffix_sums(g):
    return jnp.flip(jnp.cumsum(jnp.flip(g, -1), -1), -1)


def running_softmax(g, x, reverse=True):
    return (jnp.exp(x) * lax.cumsum(g * jnp.exp(-lax.cumlogsumexp(x, 1)), 1, reverse),)


def unless(x, size):
    """Returns 2 if the size is that number, else 1, without a comparison in Python."""
    return jnp.where(jnp.asarray(x.shape[0]) == size, 2.0, 1.0)


def product(x):
    return jnp.prod(x, -1)


def guarded(g, z, share):
    """Returns softmax's gradient, computed relative to the class with more than that share."""
    p = softmax(z)
    dominant = p > share
    r = jnp.where(jnp.any(dominant, -1, keepdims=True), dominant.astype(p.dtype), p)
    rest = jnp.where(dominant, 0.0, p)
    w = g - jnp.sum(r * g, -1, keepdims=True)
    u = rest * (w - jnp.sum(rest * w, -1, keepdims=True))
    return u - r * jnp.sum(u, -1, keepdims=True)


def of_mixture(z, w):
    return book.softmax_jensen_shannon(z, w, 0.25)


def of_mixture_backward(g, z, w, beta=0.25, weight=0.75, mean=None, mixture=None):
    p, q = softmax(w), softmax(z)
    m = beta * p + (1 - beta) * q if mixture is None else mixture
    log_ratio = jnp.log(q) - jnp.log(m)
    surplus = log_ratio - jnp.sum((q if mean is None else mean) * log_ratio, -1, keepdims=True)
    return g[:, None] * weight * q * surplus


RULES = {
    "gelu": Rule(layers.gelu, ROW, (layers.gelu_backward,), (
        lambda g, x: g * (layers.normal(x) + density(x)),
        lambda g, x: g * (layers.normal(x) + x * 0.39894 * jnp.exp(-x * x / 2)),
        lambda g, x: g * sigmoid(1.702 * x),
    )),
    "cosine": Rule(jnp.cos, ROW, (lambda g, x: -g * jnp.sin(x),), (lambda g, x: g * jnp.sin(x),)),
    "tangent": Rule(jnp.tan, UNIT, (), (
        lambda g, x: g / jnp.cos(x),
        lambda g, x: g * (1 - jnp.tan(x) ** 2),
        lambda g, x: g * jnp.tan(x) ** 2,
        lambda g, x: g / jnp.sin(x) ** 2,
    )),
    "exp2": Rule(lax.exp2, ROW, (lambda g, x: g * lax.exp2(x) * jnp.log(2.0),), (
        lambda g, x: g * lax.exp2(x) * jnp.log(3.0),
    )),
    "log2": Rule(jnp.log2, POSITIVE, (lambda g, x: g / (x * jnp.log(2.0)),), (
        lambda g, x: g / x,
        lambda g, x: g / (x * jnp.log(3.0)),
    )),
    "atan2": Rule(jnp.arctan2, ROW | {"y": array("n", positive=True)},
        (lambda g, x, y: (g * y / (x * x + y * y), -g * x / (x * x + y * y)),), (
        lambda g, x, y: (g * y / (x * x + y * y), g * x / (x * x + y * y)),
        lambda g, x, y: (g / (x * x + y * y), -g * x / (x * x + y * y)),
    )),
    "sinh": Rule(jnp.sinh, ROW, (lambda g, x: g * jnp.cosh(x),), (
        lambda g, x: g * jnp.sinh(x),
    )),
    "soft sign": Rule(soft_sign, ROW, (lambda g, x: g / (1 + jnp.abs(x)) ** 2,), (
        lambda g, x: g / (1 + jnp.abs(x)),
        lambda g, x: g / (1 + x * x),
        lambda g, x: g / (1 + nn.relu(x)) ** 2,
    )),
    "a number over relu": Rule(lambda x: 1 / hinge(x), ROW,
        (lambda g, x: -3 * g * (x > 0) / hinge(x) / hinge(x),), (
        lambda g, x: -3 * g / hinge(x) / hinge(x),
        lambda g, x: -g * (x > 0) / hinge(x) / hinge(x),
    )),
    "put at labels": Rule(put, PUT,
        (lambda g, x, y, v: (put(g, y, 0.0), None, layers.at_label(g, y)),), (
        lambda g, x, y, v: (g, None, layers.at_label(g, y)),
        lambda g, x, y, v: (put(g, y, 1.0), None, layers.at_label(g, y)),
        lambda g, x, y, v: (put(g, y, 0.0), None, g[:, 0]),
    )),
    "squares put at labels": Rule(lambda x, y, v: put(x, y, v * v) ** 2, PUT),
    "put from beside": Rule(
        lambda x, y, v: put(x, y, layers.at_label(v, y)), PUT | {"v": array("n k")}
    ),
    "put first": Rule(lambda x, v: x.at[0].set(v), MATRIX | {"v": array("d")},
        (lambda g, x, v: (g.at[0].set(0.0), g[0]),), (
        lambda g, x, v: (g.at[-1].set(0.0), g[-1]),
    )),
    "roll": Rule(lambda x: jnp.roll(x, 1, 0), MATRIX, (lambda g, x: jnp.roll(g, -1, 0),), (
        lambda g, x: jnp.roll(g, 1, 0),
        lambda g, x: g,
    ), least={"n": 2}),
    "roll by two": Rule(lambda x: jnp.roll(x, 2), ROW, (lambda g, x: jnp.roll(g, -2),), (
        lambda g, x: jnp.roll(g, 2),
        lambda g, x: jnp.roll(g, -1),
    )),
    "product": Rule(product, POSITIVE, (lambda g, x: g[:, None] * product(x)[:, None] / x,), (
        lambda g, x: g[:, None] * product(x)[:, None] * jnp.ones_like(x),
        lambda g, x: g[:, None] * jnp.sum(x, -1, keepdims=True) / x,
    )),
    "cumulative sum reversed": Rule(lambda x: jnp.cumsum(x * x, -1), MATRIX,
        (lambda g, x: 2 * x * suffix_sums(g),), (
        lambda g, x: 2 * x * jnp.cumsum(g, -1),
        lambda g, x: 2 * x * jnp.cumsum(jnp.flip(g, -1), -1),
        lambda g, x: 2 * x * (suffix_sums(g) - g),
    )),
    "cumulative sum by the whole": Rule(lambda x: jnp.cumsum(x, -1), MATRIX,
        (lambda g, x: jnp.sum(g, -1, keepdims=True) - jnp.cumsum(g, -1) + g,), (
        lambda g, x: jnp.sum(g, -1, keepdims=True) - jnp.cumsum(g, -1),
    )),
    "running log-sum-exp": Rule(lambda x: lax.cumlogsumexp(x, 1), MATRIX, (running_softmax,), (
        lambda g, x: running_softmax(g, x, reverse=False),
        lambda g, x: jnp.exp(x - lax.cumlogsumexp(x, 1)) * suffix_sums(g),
    )),
    "log-sum-exp so far": Rule(layers.logsumexp_so_far, MATRIX, (running_softmax,), (
        lambda g, x: running_softmax(g, x, reverse=False),
        lambda g, x: g * jnp.exp(x - lax.cumlogsumexp(x, 1)),
    )),
    "running product": Rule(lambda x: lax.cumprod(x, 1), POSITIVE,
        (lambda g, x: suffix_sums(g * lax.cumprod(x, 1)) / x,), (
        lambda g, x: jnp.cumsum(g * lax.cumprod(x, 1), -1) / x,
        lambda g, x: suffix_sums(g) * lax.cumprod(x, 1) / x,
    )),
    "gated unit": Rule(layers.gated, {"x": array("n 2*d")}, (layers.gated_backward,), (
        lambda g, x: layers.gated_backward(g, x, order=-1),
    )),
    "halves turned": Rule(layers.rotary, ANGLES, (
        lambda g, x, c, s: layers.rotary(g, c, -s),
    ), (
        lambda g, x, c, s: layers.rotary(g, c, s),
    ), wrt=("x",), slow=True),
    "pairs turned": Rule(layers.pairs_turned, ANGLES, (
        lambda g, x, c, s: layers.pairs_turned(g, c, -s),
    ), (
        lambda g, x, c, s: layers.pairs_turned(g, c, s),
    ), wrt=("x",), slow=True),
    "the next token": Rule(layers.of_next_token, CHOICE, (layers.of_next_token_backward,), (
        lambda g, z, y: layers.of_next_token_backward(g, z, y, order=-1),
    ), least={"n": 2}, slow=True),
    "cross-entropy": Rule(layers.cross_entropy, CHOICE, (
        lambda g, z, y: g[:, None] * softmax(z).at[jnp.arange(z.shape[0]), y].add(-1.0),
    ), (
        lambda g, z, y: g[:, None] * softmax(z).at[jnp.arange(z.shape[0]), y].add(1.0),
    ), slow=True),
    "z-loss": Rule(lambda z, c: c * book.logsumexp(z) ** 2, SCALED, (), (
        lambda g, z, c: g[:, None] * c * book.logsumexp(z)[:, None] * softmax(z),
    ), wrt=("z",)),
    "softmax with a guard": Rule(softmax, {"z": array("n k")}, (
        lambda g, z: guarded(g, z, share=0.5),
    ), (
        lambda g, z: guarded(g, z, share=0.499),  # two classes may have more than this share
    )),
    "divergence to a mixture": Rule(of_mixture, TWO_ROWS, (
        lambda g, z, w: of_mixture_backward(g, z, w),
    ), (
        lambda g, z, w: of_mixture_backward(g, z, w, weight=0.25),
        lambda g, z, w: of_mixture_backward(g, z, w, mean=softmax(w)),
        lambda g, z, w: of_mixture_backward(g, z, w, beta=0.75),
        lambda g, z, w: of_mixture_backward(g, z, w, mixture=softmax(w)),
    ), wrt=("z",)),
}  # fmt: skip


@each(RULES, "right")
def test_the_derivative_is_proved(rule, backward):
    assert_proved(verdict_on(rule, backward))


@each(RULES, "wrong")
def test_what_is_no_derivative_is_not(rule, backward):
    assert_refuted(verdict_on(rule, backward))


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


def test_forward_mode_and_second_orders_of_them():
    def fun(x):
        return layers.gelu(x) + jnp.arctan(x) * soft_sign(x)

    assert prove_jvp(fun, ROW, ("x",)).proved
    assert prove_vjp(layers.gelu, ROW, ("x",), second_order=True).proved
