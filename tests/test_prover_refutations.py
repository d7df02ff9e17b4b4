"""No true derivative is refuted because of rounding or kinks, and wrong ones still are."""

import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx
from xent_jax.proofs import array, prove_vjp
from xent_jax.proofs._refutation.digits import Digits, Unread

from tests import layers
from tests.rules import assert_refuted, floats, with_backward

MASK = array("n", dtype=bool)
ROW, MATRIX = {"x": array("n")}, {"x": array("n d")}


def with_rule(value, change=lambda cotangents, g, *args: cotangents):
    """Returns ``value`` with a custom_vjp rule: JAX's derivative, changed by ``change``."""
    return with_backward(value, lambda g, *args: change(jax.vjp(value, *args)[1](g), g, *args))


# ---------------------------------------------------------------- true derivatives


def layer_norm(x):
    with jax.ensure_compile_time_eval():
        scale, shift = jnp.ones(()), jnp.zeros(())
    return layers.fast_layer_norm(x) * scale + shift


def flax_layer_norm(x):
    """Returns flax's own layer norm of rows, whose width must be a number."""
    return nnx.LayerNorm(3, rngs=nnx.Rngs(0))(x)


HEADS = {"q": array("b t h 2"), "k": array("b s h 2"), "v": array("b s h 2")}
TRUE = {
    "RMSNorm": (lambda x: x * layers.rms(x), MATRIX),
    "LayerNorm": (layer_norm, MATRIX),
    "LayerNorm of flax": (flax_layer_norm, {"x": array("n 3")}),
    "standardize": (lambda x: jax.nn.standardize(x), MATRIX),
    "attention": (lambda q, k, v: jax.nn.dot_product_attention(q, k, v), HEADS),
    "Huber of optax": (lambda x: optax.huber_loss(x), ROW),
    "Huber of rlax": (layers.rlax_huber, ROW),
    "sparsemax": (lambda x, y: optax.losses.sparsemax_loss(x, y), ROW | {"y": MASK}),
    "relu squared": (lambda x: jax.nn.relu(x) ** 2, ROW),
    "elu": (lambda x: jax.nn.elu(x), ROW),
    "sin x + exp 2x": (lambda x: jnp.sin(x) + jnp.exp(2 * x), ROW),
    "their sum": (lambda x: jnp.sum(jnp.sin(x) + jnp.exp(2 * x)), ROW),
}  # fmt: skip


@pytest.mark.parametrize("name", TRUE)
def test_a_true_derivative_is_not_refuted(name):
    value, specs = TRUE[name]
    verdict = prove_vjp(with_rule(value), specs, floats(specs))
    assert verdict.status != "refuted", verdict


@pytest.mark.parametrize("name", ["RMSNorm", "Huber of rlax", "relu squared", "their sum"])
def test_nor_is_it_in_float64_alone(name, only_floats):
    test_a_true_derivative_is_not_refuted(name)


@pytest.fixture
def only_floats(monkeypatch):
    """Makes the search fall back to float64, as it does where Digits cannot read a primitive."""

    def unread(*_):
        raise Unread("nothing is read")

    monkeypatch.setattr(Digits, "__call__", unread)


NOT_READ = {
    "float32 inside": lambda x: jnp.sin(x.astype(jnp.float32)).astype(x.dtype),
    "digits lost": lambda x: (1e9 + jnp.sin(x)) - 1e9,
    "narrow": lambda x: x + 1e-7 * jnp.tanh(1e5 * x),
    "kink": lambda x: jax.nn.relu(x) + 3 * x,
    "steep": lambda x: jnp.exp(3 * x) + jnp.sin(x),
    "cubic kink": lambda x: jnp.abs(x) ** 3,
}


@pytest.mark.parametrize("name", NOT_READ)
@pytest.mark.usefixtures("only_floats")
def test_differences_in_float64_know_their_error(name):
    verdict = prove_vjp(with_rule(NOT_READ[name]), ROW, ("x",))
    assert verdict.status != "refuted", verdict


def test_float32_inside_is_read_as_real_numbers():
    value = NOT_READ["float32 inside"]
    assert prove_vjp(with_rule(value), ROW, ("x",)).status != "refuted"
    twice = with_rule(value, lambda cotangents, g, x: (2 * cotangents[0],))
    assert_refuted(prove_vjp(twice, ROW, ("x",)))


# ---------------------------------------------------------------- what has no derivative


def test_a_kink_proves_nothing():
    """At (0, 0) the function has a kink, but its differences along both axes agree."""

    def value(x, y):
        return jnp.minimum(jnp.abs(x), jnp.abs(y))

    def at_zero(cotangents, g, x, y):
        return tuple(jnp.where((x == 0) & (y == 0), 5 * g, c) for c in cotangents)

    verdict = prove_vjp(with_rule(value, at_zero), {"x": ROW["x"], "y": ROW["x"]}, ("x", "y"))
    assert verdict.status != "refuted", verdict


# ---------------------------------------------------------------- wrong derivatives


def at_zero(cotangents, g, x, *_):
    return (jnp.where(x == 0, cotangents[0] + g, cotangents[0]),)


def times(factor):
    return lambda cotangents, g, *args: tuple(
        c if c.dtype == jax.dtypes.float0 else factor * c for c in cotangents
    )


def twice_if(asks):
    return lambda cotangents, g, x: (cotangents[0] * (2 if asks(x) else 1),)


WRONG = {
    **{f"{name}, times 1.001": (f, specs, times(1.001)) for name, (f, specs) in TRUE.items()},
    "RMSNorm without a term": (
        lambda x: x * layers.rms(x), MATRIX, lambda c, g, x: g * layers.rms(x)
    ),
    "of the sign of the cotangent": (jnp.sin, ROW, lambda c, g, x: jnp.abs(c[0])),
    "not linear in the cotangent": (jnp.sin, ROW, lambda c, g, x: g * g * jnp.cos(x)),
    "rows mixed": (jnp.sin, MATRIX, lambda c, g, x: jnp.roll(c[0], 1, 0)),
    "a cotangent summed": (lambda x: jnp.exp(x), ROW, lambda c, g, x: jnp.sum(g) * jnp.exp(x)),
    "relu squared at 0": (lambda x: jax.nn.relu(x) ** 2, ROW, at_zero),
    "elu at 0": (lambda x: jax.nn.elu(x), ROW, at_zero),
    "NaN at 0": (lambda x: x**3, ROW, lambda c, g, x: c[0] * x / x),
    "Huber as if it were square": (layers.rlax_huber, ROW, lambda c, g, x: g * x),
    "where two neighbors are equal": (
        jnp.tanh, MATRIX,
        lambda c, g, x: jnp.where(x == jnp.roll(x, 1, -1), 2.0, 1.0) * c[0],
    ),
    "far out": (jnp.tanh, ROW, lambda c, g, x: jnp.where(jnp.abs(x) > 4, c[0] + 1e-3 * g, c[0])),
    "of large numbers": (
        lambda x: x * x, ROW, lambda c, g, x: jnp.where(jnp.abs(x) > 4, 0.0, c[0])
    ),
    "of size 1": (lambda x: jnp.sum(x * x), ROW, twice_if(lambda x: x.shape[0] == 1)),
    "of equal sizes": (
        lambda x: jnp.sum(x * x), MATRIX, twice_if(lambda x: x.shape[0] == x.shape[1])
    ),
    "small among large": (
        lambda x: jnp.stack([jnp.exp(20 * x), jnp.sin(x)]), ROW,
        lambda c, g, x: 20 * g[0] * jnp.exp(20 * x) + 1.01 * g[1] * jnp.cos(x),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_derivative_is_refuted(name):
    value, specs, change = WRONG[name]
    verdict = prove_vjp(with_rule(value, change), specs, floats(specs))
    assert_refuted(verdict)


@pytest.mark.parametrize("name", ["rows mixed", "relu squared at 0", "NaN at 0", "far out"])
def test_so_it_is_in_float64_alone(name, only_floats):
    test_a_wrong_derivative_is_refuted(name)
