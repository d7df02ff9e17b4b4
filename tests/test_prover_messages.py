"""The prover names a line, a short residual, or both gradients if it proves nothing."""

import inspect
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from xent_jax.proofs import array, prove_jvp, prove_vjp, scalar
from xent_jax.proofs._prover import decision

from tests.rules import assert_refuted, with_backward

Z = {"z": array("n k")}


def squares(z):
    return jnp.sum(z * z, -1)


# ---------------------------------------------------------------- where it is written


def of_products(g, z):
    return (2 * g[:, None] * z + 0 * jnp.cumprod(z, -1),)


def of_wrong_shape(g, z):
    return (2 * g * z,)


def of_a_root(g, z):
    return (2 * g[:, None] * z * z.shape[1] ** -0.5,)


@pytest.mark.parametrize("backward", [of_products, of_wrong_shape, of_a_root])
def test_what_a_backward_does_stands_at_its_line(backward):
    verdict = prove_vjp(with_backward(squares, backward), Z, ("z",))
    first = inspect.getsourcelines(backward)[1] + 1
    assert verdict.reason.startswith(f"{__file__}:{first}"), verdict.reason
    assert f"({backward.__name__})" in verdict.reason


def test_what_a_function_does_stands_at_its_line():
    def fun(z):
        return jnp.cumprod(z, -1)

    line = inspect.getsourcelines(fun)[1] + 1
    assert prove_vjp(fun, Z, ("z",)).reason.startswith(f"{__file__}:{line}")


@pytest.mark.parametrize(
    "root", [lambda d: math.sqrt(d), lambda d: d**-0.5, lambda d: 1 / math.sqrt(d)]
)
def test_a_root_of_a_size_has_a_way_out(root):
    def fun(z):
        return z * root(z.shape[1])

    verdict = prove_vjp(fun, Z, ("z",))
    assert "jnp.sqrt(d)" in verdict.reason and "array('n 64')" in verdict.reason
    assert prove_vjp(fun, {"z": array("n 4")}, ("z",)).proved


# ---------------------------------------------------------------- what is left over


def test_of_many_terms_the_largest_are_shown():
    def wrong(g, z):
        return (g[:, None] * sum(c * jnp.exp(c * z) for c in range(2, 9)),)

    verdict = prove_vjp(with_backward(lambda z: jnp.sum(jnp.exp(z), -1), wrong), Z, ("z",))
    assert "+ 4 more terms is left over" in verdict.reason
    assert verdict.reason.startswith("the gradient to z: 8*exp(z[a0, a1])^8*g[a0] + 7*")


def test_numbers_are_short():
    wrong = with_backward(squares, lambda g, z: (1.9999 * g[:, None] * z,))
    reason = prove_vjp(wrong, Z, ("z",)).reason
    assert reason == (
        "the gradient to z: -0.0001*g[a0]*z[a0, a1] is left over; "
        "the backward is 1.9999*g[a0]*z[a0, a1]"
    )


def test_rounded_constants_are_suspected():
    def backward(g, z):
        return (g[:, None] * (z + z * 0.9999999),)

    verdict = prove_vjp(with_backward(squares, backward), Z, ("z",))
    assert verdict.status == "unknown"
    assert "all that is left is below 1e-06: constants rounded?" in verdict.reason


# ---------------------------------------------------------------- what is shown of a refutation


def test_a_refutation_can_be_pasted():
    def fun(z, c):
        return c * squares(z)

    wrong = with_backward(fun, lambda g, z, c: (g[:, None] * z * c, jnp.zeros_like(c)))
    verdict = prove_vjp(wrong, Z | {"c": scalar()}, ("z",), fun)
    names = {"jnp": jnp}
    exec("\n".join(verdict.evidence()), names)  # in float32, as for the user who pastes it
    arguments = [names[name] for name in ("z", "c")]
    out, pullback = jax.vjp(wrong, *arguments)
    g = next(iter(verdict.along.values()), np.ones(out.shape))
    (claimed, _), (true, _) = (
        pullback(jnp.asarray(g, out.dtype)),
        jax.vjp(fun, *arguments)[1](jnp.asarray(g, out.dtype)),
    )
    np.testing.assert_allclose(verdict.claimed["the gradient to z"], claimed, rtol=1e-6)
    np.testing.assert_allclose(verdict.truth["the gradient to z"], true, rtol=1e-6)
    assert not np.allclose(claimed, true)


def test_a_wrong_tangent_is_shown():
    fun = jax.custom_jvp(jnp.sin)
    fun.defjvp(lambda primals, tangents: (jnp.sin(*primals), tangents[0]))
    verdict = prove_jvp(fun, {"x": array("n")}, ("x",))
    assert_refuted(verdict)
    x = verdict.counterexample["x"]
    (tangent,) = verdict.along.values()
    np.testing.assert_allclose(verdict.claimed["the tangent of the output"], tangent)
    truth = verdict.truth["the tangent of the output"]
    # Both are float64 numbers; NumPy's cosine and the product round in the last places.
    np.testing.assert_allclose(truth, np.cos(x) * tangent, rtol=1e-12)


def test_numbers_have_the_last_word(monkeypatch):
    """The test makes all claims seem proved, as a wrong rule of the prover would."""
    monkeypatch.setattr(decision, "require", lambda claims: None)
    wrong = with_backward(squares, lambda g, z: (g[:, None] * z,))
    verdict = prove_vjp(wrong, Z, ("z",))
    assert verdict.status == "refuted" and verdict.identity is None
    assert "it seemed proved" in verdict.reason and "report" in verdict.reason
    assert prove_vjp(wrong, Z, ("z",), search=False).proved
