"""A rule may be the derivative of a surrogate, and a function may have several outputs."""

import jax.numpy as jnp
import pytest
from jax import lax
from xent_jax.proofs import array, prove_equal, prove_jvp, prove_vjp

from tests.rules import assert_refuted, with_backward

X = {"x": array("n")}


def _straight_through(x):
    return x + lax.stop_gradient(jnp.round(x) - x)


def _reversed(factor=-1.0):
    return with_backward(jnp.tanh, lambda g, x: factor * g * (1 - jnp.tanh(x) ** 2))


def test_a_straight_through_estimator_has_the_derivative_of_its_surrogate():
    verdict = prove_vjp(_straight_through, X, ("x",), jnp.round, surrogate=lambda x: x)
    assert verdict.proved, verdict
    assert any("of the surrogate" in note for note in verdict.assumptions)


def test_without_its_surrogate_it_is_refuted_and_shown():
    for kinks in (True, False):
        verdict = prove_vjp(_straight_through, X, ("x",), jnp.round, kinks=kinks)
        assert_refuted(verdict)
        assert "the backward is g[a0]" in verdict.reason, verdict.reason


def test_a_reversal_of_the_gradient_is_that_of_the_opposite():
    assert prove_vjp(_reversed(), X, ("x",), jnp.tanh, surrogate=lambda x: -jnp.tanh(x)).proved
    verdict = prove_vjp(_reversed(), X, ("x",))
    assert verdict.status == "refuted" and "; the backward is" in verdict.reason


def test_another_backward_than_that_of_the_surrogate_is_refuted():
    verdict = prove_vjp(_straight_through, X, ("x",), jnp.round, surrogate=lambda x: 2 * x)
    assert_refuted(verdict)
    verdict = prove_vjp(_reversed(-2.0), X, ("x",), surrogate=lambda x: -jnp.tanh(x))
    assert_refuted(verdict)


def test_the_value_is_still_that_of_the_reference():
    def down(x):
        return x + lax.stop_gradient(jnp.floor(x) - x)

    verdict = prove_vjp(down, X, ("x",), jnp.round, surrogate=lambda x: x)
    assert verdict.status == "refuted" and "the value" in verdict.reason


def test_a_surrogate_has_the_shape_of_the_value():
    verdict = prove_vjp(_straight_through, X, ("x",), surrogate=jnp.sum, search=False)
    assert verdict.status == "refused" and "other shapes" in verdict.reason


# ---------------------------------------------------------------- several outputs


def _plain(x):
    return {"a": jnp.exp(x), "b": jnp.tanh(x)}


def _both(a="a", b="b"):
    """Returns ``_plain`` with a rule that takes the cotangents from the keys ``a`` and ``b``."""
    return with_backward(_plain, lambda g, x: g[a] * jnp.exp(x) + g[b] * (1 - jnp.tanh(x) ** 2))


@pytest.mark.parametrize("reference", [None, _plain])
def test_each_output_has_its_cotangent(reference):
    assert prove_vjp(_both(), X, ("x",), reference).proved
    assert_refuted(prove_vjp(_both("b", "a"), X, ("x",), reference))


def test_modes_and_values_of_several_outputs():
    assert prove_vjp(_plain, X, ("x",), second_order=True).proved
    assert prove_jvp(_plain, X, ("x",)).proved
    assert prove_equal(_both(), _plain, X).proved
    swapped = prove_equal(_both(), lambda x: {"a": jnp.tanh(x), "b": jnp.exp(x)}, X)
    assert swapped.status == "refuted" and "output 0" in swapped.reason


def test_a_reference_of_fewer_outputs_is_not_proved():
    verdicts = [prove(_plain, X, ("x",), jnp.exp) for prove in (prove_vjp, prove_jvp)]
    for verdict in (*verdicts, prove_equal(_plain, jnp.exp, X)):
        assert not verdict.proved and verdict.reason == "a function of 2 outputs beside one of 1"
