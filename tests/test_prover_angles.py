"""The prover reads sin, cos and exp2, and reads tan away from its poles."""

import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from xent_jax.proofs import array, prove_equal, prove_jvp, prove_vjp
from xent_jax.proofs._prover.verdict import OFF_KINKS

from tests.rules import with_backward
from tests.terms import agree, as_terms

ARGS = {"x": array("n"), "y": array("n")}


@pytest.mark.parametrize(
    "fun",
    [
        lambda x, y: jnp.sin(x) ** 5 * jnp.cos(-y) + jnp.sin(-x * y),
        lambda x, y: jnp.sin(jnp.where(x > 0, x, 0.0)) - jnp.cos(jnp.where(y > 0, y, 0.0)),
        lambda x, y: lax.exp2(x - y) + jnp.expm1(y),
    ],
)
def test_they_mean_what_jax_computes(fun):
    rng = np.random.default_rng(0)
    inputs = {name: rng.normal(size=4) for name in ARGS}
    agree(fun, ARGS, as_terms(fun, ARGS), inputs, {"n": 4})


def test_jax_own_derivatives_are_proved():
    def fun(x, y):
        return jnp.sin(x * y) * jnp.cos(x) + jnp.exp(jnp.sin(y))

    assert prove_vjp(fun, ARGS, ("x", "y")).proved
    assert prove_jvp(fun, ARGS, ("x", "y")).proved
    assert prove_vjp(fun, ARGS, ("x", "y"), second_order=True).proved


TANGENT = "tangents are not taken at their poles"
UNIT = {"x": array("n", unit=True)}


@pytest.mark.parametrize(
    "fun",
    [
        jnp.tan,
        with_backward(jnp.tan, lambda g, x: (g / jnp.cos(x) ** 2,)),
        with_backward(jnp.tan, lambda g, x: (g * (1 + jnp.tan(x) ** 2),)),
        lambda x: jnp.tan(jnp.pi * (x - 0.5)) * x,
    ],
)
def test_tangents_are_proved_off_their_poles(fun):
    for args in (UNIT, {"x": array("n")}):
        verdict = prove_vjp(fun, args, ("x",))
        assert verdict.proved and {OFF_KINKS, TANGENT} <= set(verdict.assumptions), verdict


def test_tangents_in_forward_mode_and_of_second_order():
    assert prove_jvp(jnp.tan, UNIT, ("x",)).proved
    assert prove_vjp(jnp.tan, UNIT, ("x",), second_order=True).proved


def test_a_tangent_is_refused_where_nothing_is_left_out():
    verdict = prove_vjp(jnp.tan, UNIT, ("x",), kinks=False, search=False)
    assert verdict.status == "refused" and "may be at a pole" in verdict.reason
    assert prove_equal(jnp.tan, lambda x: jnp.sin(x) / jnp.cos(x), UNIT).status == "refused"
