"""The prover proves right code and the theorems of the library, and does not prove wrong code."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from xent_jax.proofs import (
    array,
    assert_vjp_proved,
    labels,
    prove_equal,
    prove_jvp,
    prove_vjp,
    scalar,
)
from xent_jax.proofs._prover import decision
from xent_jax.proofs._prover.claims import second_order_claims, vjp_of
from xent_jax.proofs._prover.trace import arguments, trace
from xent_jax.proofs._theorems import textbook as book
from xent_jax.proofs._theorems.shipped import THEOREMS, UNPROVED

import xent_jax
from tests.cases import FUNCTIONS
from tests.mutation.traced import prove_backward
from tests.rules import assert_refuted, with_backward

Z, T = array("n k"), array("n k")
INTEGER = {"z": Z, "y": labels("n", classes="k")}


# ---------------------------------------------------------------- right code


def test_a_naive_mean_cross_entropy_is_proved_without_a_reference():
    def loss(z, y):
        return jnp.mean(book.logsumexp(z) - book.at_label(z, y))

    verdict = prove_vjp(loss, INTEGER, wrt=("z",))
    assert verdict.proved and verdict.status == "proved" and not verdict.reason
    assert "y is in [0, k)" in verdict.assumptions
    assert "KroneckerDelta" in str(verdict.identity)


def test_jax_softmax_is_proved_with_its_stopped_maximum():
    assert_vjp_proved(lambda z: jax.nn.softmax(z), {"z": Z}, ("z",), book.softmax)


def test_forward_mode_is_proved():
    assert prove_jvp(lambda z: jax.nn.log_softmax(z), {"z": Z}, ("z",), book.log_softmax).proved


def test_arguments_may_have_the_names_of_cotangents():
    verdict = prove_vjp(lambda g, z: g * jnp.exp(z), {"g": array("n"), "z": array("n")}, ("g", "z"))
    assert verdict.proved
    wrong = with_backward(lambda g: g**2 / 2, lambda cotangent, g: (cotangent**2,))
    assert not prove_vjp(wrong, {"g": array("n")}, ("g",), search=False).proved


# ---------------------------------------------------------------- wrong code


def test_p_minus_t_is_refuted():
    """The gradient ``p - t`` is right only where the target t sums to 1."""
    fun = with_backward(
        lambda z, t: xent_jax.softmax_cross_entropy(z, t),
        lambda g, z, t: (g[:, None] * (jax.nn.softmax(z) - t), jnp.zeros_like(t)),
    )
    verdict = prove_vjp(fun, {"z": Z, "t": T}, ("z",), book.soft_loss)
    assert_refuted(verdict)
    assert not np.allclose(verdict.counterexample["t"].sum(-1), 1)


@pytest.mark.parametrize("reference", [None, jnp.exp], ids=["alone", "reference"])
def test_a_rule_with_another_value_is_refuted(reference):
    """``jax.value_and_grad`` and ``jax.jvp`` return the rule's value, not the function's own."""
    fun = jax.custom_vjp(lambda z: jnp.exp(z))
    fun.defvjp(lambda z: (7 * jnp.exp(z) + 1, z), lambda z, g: (g * jnp.exp(z),))
    verdict = prove_vjp(fun, {"z": Z}, ("z",), reference)
    assert verdict.status == "refuted" and "the value that jax.vjp gives" in verdict.reason
    fun = jax.custom_jvp(lambda z: jnp.exp(z))
    fun.defjvp(lambda primals, tangents: (3 * jnp.exp(*primals), jnp.exp(*primals) * tangents[0]))
    verdict = prove_jvp(fun, {"z": Z}, ("z",), reference)
    assert verdict.status == "refuted" and "the value that jax.jvp gives" in verdict.reason


def test_finite_masks_are_not_proved():
    """-1e9 gives another result than -inf where logits are as low or where no class is left."""

    def masked(z, m):
        return jax.nn.logsumexp(jnp.where(m, z, -1e9), axis=-1)

    def wanted(z, m):
        return jnp.where(jnp.any(m, -1), book.logsumexp(z, m), 0.0)

    args = {"z": Z, "m": array("n k", dtype=bool)}
    assert not prove_vjp(masked, args, ("z",), wanted).proved


def test_jax_own_derivative_through_a_kink_is_refuted():
    """At z = 0 JAX's slopes of max and abs do not add up to the slope of the smooth loss."""

    def stable(z, t):
        return jnp.maximum(z, 0) - z * t + jnp.log1p(jnp.exp(-jnp.abs(z)))

    verdict = prove_vjp(stable, {"z": array("n"), "t": array("n")}, ("z",))
    assert_refuted(verdict)
    assert (verdict.counterexample["z"] == 0).any()


def test_a_wrong_function_with_its_right_gradient_is_refuted():
    verdict = prove_vjp(lambda z: jax.nn.softmax(2 * z), {"z": Z}, ("z",), book.softmax)
    assert verdict.status == "refuted" and "the value" in verdict.reason


def test_a_guard_of_squared_sums_is_not_one_of_their_sum():
    """The sums of the rows of h may cancel each other, but not if h is at least 0."""

    def value(x, h):
        return x * jnp.where(jnp.sum(jnp.sum(h, 1) ** 2) == 0, 0.0, 1.0)

    def backward(g, x, h):
        return g * jnp.where(jnp.sum(h) == 0, 0.0, 1.0), None

    fun = with_backward(value, backward)
    assert not prove_vjp(fun, {"x": scalar(), "h": Z}, ("x",)).proved
    assert prove_vjp(fun, {"x": scalar(), "h": array("n k", nonnegative=True)}, ("x",)).proved


def test_a_gradient_for_ignored_labels_is_not_proved_vacuously():
    """The gradient is right for labels in range, so only a spec with ``ignore`` shows the error."""

    def value(z, y):
        return book.integer_loss(z, y, ignore_index=-100)

    def backward(g, z, y):
        hit = jnp.arange(z.shape[1]) == jnp.where(y == -100, 0, y)[:, None]
        return g[:, None] * (jax.nn.softmax(z) - hit), None

    fun = with_backward(value, backward)
    sentinel = {"z": Z, "y": labels("n", classes="k", ignore=-100)}
    assert prove_vjp(fun, INTEGER, ("z",), value).proved
    verdict = prove_vjp(fun, sentinel, ("z",), value)
    assert verdict.status == "refuted" and (verdict.counterexample["y"] == -100).any()


def test_a_mask_that_is_called_like_the_prover_s_own_is_not_taken_for_it():
    sentinel = labels("n", classes="k", ignore=-100)
    args = {"z": Z, "y": sentinel, "y_kept": array("n", dtype=bool), "g": array("n")}
    verdict = prove_equal(
        lambda z, y, y_kept, g: jnp.where(y == -100, 0, g),
        lambda z, y, y_kept, g: jnp.where(y_kept, g, 0),
        args,
    )
    assert_refuted(verdict)
    fun = with_backward(
        lambda z, y, y_kept, g: jnp.exp(z),
        lambda h, z, y, y_kept, g: (g[:, None] * jnp.exp(z), None, None, None),
    )
    assert_refuted(prove_vjp(fun, args, ("z",)))


def test_a_wrong_second_order_is_refuted():
    @jax.custom_jvp
    def slope(z):
        return jnp.exp(z)

    slope.defjvp(lambda p, t: (slope(*p), 2 * t[0] * slope(*p)))
    fun = with_backward(jnp.exp, lambda g, z: (g * slope(z),))
    args = {"z": array("n")}
    assert prove_vjp(fun, args, ("z",), jnp.exp).proved
    verdict = prove_vjp(fun, args, ("z",), jnp.exp, second_order=True)
    assert verdict.status == "refuted" and "forward over the gradient to z" in verdict.reason


def test_second_orders_are_claimed_in_both_modes():
    with decision.noting({}, {}):
        found = second_order_claims(lambda z: jnp.exp(z), arguments({"z": array("n")}), ("z",))
    assert [what for what, _, _ in found] == [
        "forward over the gradient to z",
        "reverse over the gradient, to g",
        "reverse over the gradient, to z",
    ]


def test_the_helper_says_why():
    with pytest.raises(AssertionError, match="cumprod"):
        assert_vjp_proved(lambda z: jax.lax.cumprod(z, 1), {"z": Z}, ("z",))


# ---------------------------------------------------------------- jaxprs and theorems


def test_traced_backwards_are_proved():
    a = arguments(INTEGER)
    fun = xent_jax.softmax_cross_entropy_with_integer_labels
    value = trace(fun, a.shapes)
    both = vjp_of(fun, a, ("z",))
    out = jax.eval_shape(fun, *a.shapes)
    backward = trace(lambda *args: both(*args)[1:], [out, *a.shapes])
    assert prove_backward(value, backward, INTEGER, ("z",), book.integer_loss).proved


def test_every_loss_has_a_theorem_of_every_kind():
    exported = set(FUNCTIONS)
    for kind in ("gradient", "second order", "forward mode"):
        unproved = {u.function for u in UNPROVED if u.what == kind}
        proved = {t.function for t in THEOREMS if t.kind == kind}
        assert proved | unproved == exported and not proved & unproved
    assert {u.function for u in UNPROVED} <= exported | {"shard_linear_head", "chunked_loss"}


def test_names_of_theorems_are_unique():
    assert len({t.name for t in THEOREMS}) == len(THEOREMS)


# test_identities proves the gradients.
OTHERS = [pytest.param(t, id=t.name) for t in THEOREMS if t.kind != "gradient"]


@pytest.mark.slow
@pytest.mark.parametrize("theorem", OTHERS)
def test_what_ships_is_proved(theorem):
    verdict = theorem.prove()
    assert verdict.proved, verdict.reason
