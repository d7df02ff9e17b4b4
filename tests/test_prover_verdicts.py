"""What the prover answers: to right code, to wrong code, and to what it does not read."""

import re

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
from xent_jax.proofs._prover.prove import prove_backward
from xent_jax.proofs._prover.trace import arguments, trace
from xent_jax.proofs._theorems import textbook as book
from xent_jax.proofs._theorems.shipped import THEOREMS, UNPROVED

import xent_jax
from tests.cases import FUNCTIONS
from tests.rules import with_backward
from xent_jax import _rows
from xent_jax._blocks import others_in_blocks

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


def test_values_are_proved_equal():
    assert prove_equal(xent_jax.logsumexp, book.logsumexp, {"z": Z}).proved


def test_every_platform_is_read():
    def fun(z):
        return jax.lax.platform_dependent(z, cpu=lambda z: z + z, default=lambda z: 2 * z)

    assert prove_equal(fun, lambda z: 2 * z, {"z": array("n")}).proved

    def other(z):
        return jax.lax.platform_dependent(z, cpu=lambda z: z + z, default=lambda z: z * z)

    verdict = prove_equal(other, lambda z: 2 * z, {"z": array("n")})
    assert verdict.status == "refused" and "platform" in verdict.reason


def test_arguments_may_have_the_names_of_cotangents():
    verdict = prove_vjp(lambda g, z: g * jnp.exp(z), {"g": array("n"), "z": array("n")}, ("g", "z"))
    assert verdict.proved
    wrong = with_backward(lambda g: g**2 / 2, lambda cotangent, g: (cotangent**2,))
    assert not prove_vjp(wrong, {"g": array("n")}, ("g",), search=False).proved


# ---------------------------------------------------------------- wrong code


def test_p_minus_t_is_refuted():
    """Right only where the target sums to 1."""
    fun = with_backward(
        lambda z, t: xent_jax.softmax_cross_entropy(z, t),
        lambda g, z, t: (g[:, None] * (jax.nn.softmax(z) - t), jnp.zeros_like(t)),
    )
    verdict = prove_vjp(fun, {"z": Z, "t": T}, ("z",), book.soft_loss)
    assert verdict.status == "refuted"
    assert not np.allclose(verdict.counterexample["t"].sum(-1), 1)


@pytest.mark.parametrize("reference", [None, book.logsumexp], ids=["alone", "reference"])
def test_a_forward_rule_with_another_value_is_refuted(reference):
    """``jax.value_and_grad`` returns that value; the function's own is right."""
    fun = jax.custom_vjp(lambda z: book.logsumexp(z))
    fun.defvjp(
        lambda z: (7 * book.logsumexp(z) + 1, z),
        lambda z, g: (g[:, None] * jax.nn.softmax(z),),
    )
    verdict = prove_vjp(fun, {"z": Z}, ("z",), reference)
    assert verdict.status == "refuted" and "the value that jax.vjp gives" in verdict.reason


@pytest.mark.parametrize("reference", [None, jnp.exp], ids=["alone", "reference"])
def test_a_tangent_rule_with_another_value_is_refuted(reference):
    fun = jax.custom_jvp(lambda z: jnp.exp(z))
    fun.defjvp(lambda primals, tangents: (3 * jnp.exp(*primals), jnp.exp(*primals) * tangents[0]))
    verdict = prove_jvp(fun, {"z": Z}, ("z",), reference)
    assert verdict.status == "refuted" and "the value that jax.jvp gives" in verdict.reason


def test_z_loss_without_its_factor_is_refuted():
    fun = with_backward(
        lambda z, c: c * book.logsumexp(z) ** 2,
        lambda g, z, c: (
            g[:, None] * c * book.logsumexp(z)[:, None] * jax.nn.softmax(z), jnp.zeros_like(c),
        ),
    )  # fmt: skip
    verdict = prove_vjp(
        fun, {"z": Z, "c": scalar()}, ("z",), lambda z, c: c * book.logsumexp(z) ** 2
    )
    assert verdict.status == "refuted"


def test_finite_masks_are_not_proved():
    """-1e9 is not -inf: where it meets logits as low, or no class at all."""

    def masked(z, m):
        return jax.nn.logsumexp(jnp.where(m, z, -1e9), axis=-1)

    def wanted(z, m):
        return jnp.where(jnp.any(m, -1), book.logsumexp(z, m), 0.0)

    args = {"z": Z, "m": array("n k", dtype=bool)}
    assert not prove_vjp(masked, args, ("z",), wanted).proved


@pytest.mark.parametrize("share", [0.5, 0.499])
def test_a_guard_must_hold_half_the_sum(share):
    """Below one half two classes may dominate, and the shortcut is wrong there."""

    def backward(g, z):
        p = jax.nn.softmax(z)
        dominant = p > share
        r = jnp.where(jnp.any(dominant, -1, keepdims=True), dominant.astype(p.dtype), p)
        rest = jnp.where(dominant, 0.0, p)
        w = g - jnp.sum(r * g, -1, keepdims=True)
        u = rest * (w - jnp.sum(rest * w, -1, keepdims=True))
        return (u - r * jnp.sum(u, -1, keepdims=True),)

    fun = with_backward(lambda z: jax.nn.softmax(z), backward)
    verdict = prove_vjp(fun, {"z": Z}, ("z",), book.softmax)
    assert verdict.proved == (share == 0.5), verdict.reason


def test_jax_own_derivative_through_a_kink_is_refuted():
    """At z = 0 it is that of no smooth function, though the loss is smooth."""

    def stable(z, t):
        return jnp.maximum(z, 0) - z * t + jnp.log1p(jnp.exp(-jnp.abs(z)))

    verdict = prove_vjp(stable, {"z": array("n"), "t": array("n")}, ("z",))
    assert verdict.status == "refuted"
    assert (verdict.counterexample["z"] == 0).any()


def test_a_wrong_function_with_its_right_gradient_is_refuted():
    verdict = prove_vjp(lambda z: jax.nn.softmax(2 * z), {"z": Z}, ("z",), book.softmax)
    assert verdict.status == "refuted" and "the value" in verdict.reason


@pytest.mark.parametrize("other", [jnp.nan, jnp.inf, -jnp.inf])
def test_infinities_and_nan_are_not_proved_equal(other):
    def fun(value):
        return lambda z: jnp.where(z > 0, value, z)

    assert prove_equal(fun(-jnp.inf), fun(other), {"z": Z}).proved == (other == -jnp.inf)
    verdict = prove_equal(fun(jnp.inf), fun(other), {"z": Z})
    assert not verdict.proved
    assert other == -jnp.inf or "NaN or +inf" in verdict.reason


def test_values_are_equal_where_what_is_not_finite_is_left_out():
    def fun(fill):
        return lambda z: jnp.where(z > 0, 0.0, jnp.where(z > 0, fill, z))

    assert prove_equal(fun(jnp.inf), fun(jnp.nan), {"z": Z}).proved


def test_a_guard_of_squared_sums_is_not_one_of_their_sum():
    """The sums of the rows of h may cancel; for h at least 0 they do not."""

    def value(x, h):
        return x * jnp.where(jnp.sum(jnp.sum(h, 1) ** 2) == 0, 0.0, 1.0)

    def backward(g, x, h):
        return g * jnp.where(jnp.sum(h) == 0, 0.0, 1.0), None

    fun = with_backward(value, backward)
    assert not prove_vjp(fun, {"x": scalar(), "h": Z}, ("x",)).proved
    assert prove_vjp(fun, {"x": scalar(), "h": array("n k", nonnegative=True)}, ("x",)).proved


def test_a_gradient_for_ignored_labels_is_not_proved_vacuously():
    """Right for labels in range: only declaring the sentinel shows what is wrong."""

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
    assert verdict.status == "refuted"
    fun = with_backward(
        lambda z, y, y_kept, g: jnp.exp(z),
        lambda h, z, y, y_kept, g: (g[:, None] * jnp.exp(z), None, None, None),
    )
    assert prove_vjp(fun, args, ("z",)).status == "refuted"


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


def _mixture_backward(change):
    """A backward of the Jensen-Shannon divergence to its logits, at beta = 1/4."""

    def backward(g, z, w):
        p, q = jax.nn.softmax(w), jax.nn.softmax(z)
        m = 0.25 * p + 0.75 * q
        weight, log_ratio, mean = {
            "right": (0.75, jnp.log(q) - jnp.log(m), q),
            "the other weight": (0.25, jnp.log(q) - jnp.log(m), q),
            "the other mean": (0.75, jnp.log(q) - jnp.log(m), p),
            "the other mixture": (0.75, jnp.log(q) - jnp.log(0.75 * p + 0.25 * q), q),
            "KL": (0.75, jnp.log(q) - jnp.log(p), q),
        }[change]
        surplus = log_ratio - jnp.sum(mean * log_ratio, -1, keepdims=True)
        return g[:, None] * weight * q * surplus, None

    return backward


@pytest.mark.parametrize(
    "change", ["right", "the other weight", "the other mean", "the other mixture", "KL"]
)
def test_a_divergence_to_a_mixture_has_one_gradient(change):
    """What is reduced modulo the mixture proves the right one alone."""

    def value(z, w):
        return book.softmax_jensen_shannon(z, w, 0.25)

    fun = with_backward(value, _mixture_backward(change))
    verdict = prove_vjp(fun, {"z": Z, "w": T}, ("z",), value)
    assert verdict.status == ("proved" if change == "right" else "refuted"), verdict


def test_the_helper_says_why():
    with pytest.raises(AssertionError, match="cumprod"):
        assert_vjp_proved(lambda z: jax.lax.cumprod(z, 1), {"z": Z}, ("z",))


# ---------------------------------------------------------------- what is not read


@pytest.mark.parametrize(
    ("fun", "reason"),
    [
        (lambda z: jax.lax.cumprod(z, 1), "cumprod"),
        (lambda z: jnp.sort(z, -1), "sort"),
        (lambda z: jax.scipy.special.erfinv(z), "erf_inv"),
        (lambda z: 1 / z, "may be NaN"),
        (lambda z: jax.lax.fori_loop(0, 3, lambda i, x: x * i, z), "scan"),
        (lambda z: z[:, 1], "clamped"),
        (lambda z: z.at[0].multiply(2), "scatter-mul"),
        (lambda z: z * jnp.arange(z.shape[1], dtype=jnp.int8), "int8"),
    ],
)
def test_refused_by_name(fun, reason, monkeypatch):
    monkeypatch.setattr("xent_jax.proofs._prover.counterexample.vjp", lambda *_: None)
    verdict = prove_vjp(fun, {"z": Z}, ("z",))
    assert verdict.status == "refused"
    assert re.search(reason, verdict.reason), verdict.reason


def test_labels_that_may_be_out_of_range_are_refused():
    def loss(z, y):
        return -book.at_label(z, y + 1)

    verdict = prove_vjp(loss, INTEGER, ("z",))
    assert verdict.status == "refused" and "clamped" in verdict.reason


def test_a_divisor_must_be_declared():
    def fun(z, c):
        return jnp.tanh(z / c)

    assert not prove_vjp(fun, {"z": array("n"), "c": scalar()}, ("z",)).proved
    verdict = prove_vjp(fun, {"z": array("n"), "c": scalar(positive=True)}, ("z",))
    assert verdict.proved and "c is positive" in verdict.assumptions


def _rounded_once(x, whole_of=jnp.round, bits=0):
    """Sums that are rounded once, as some codes take them, with parts that may be wrong."""
    plain = jnp.sum(x, axis=-1)
    c = jax.lax.reduce_precision(1e5 / jnp.maximum(plain, 1e-30), 8, bits)
    scaled = x * c[..., None]
    rest = jnp.sum(scaled - jnp.floor(scaled), axis=-1)
    return jnp.where(plain == jnp.inf, plain, (whole_of(c * plain - rest) + rest) / c)


def test_a_sum_rounded_once_is_proved_for_terms_of_any_sign():
    verdict = prove_equal(_rounded_once, lambda x: jnp.sum(x, -1), {"x": Z})
    assert verdict.proved, verdict.reason
    assert not any("above" in note for note in verdict.assumptions)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x: _rounded_once(x, lambda w: jnp.round(w) + 1),
        lambda x: _rounded_once(x, lambda w: jnp.round(w / 2)),
        lambda x: jax.lax.reduce_precision(jnp.sum(jnp.exp(x), -1), 8, 0),
        lambda x: jax.lax.reduce_precision(jnp.sum(jnp.exp(x), -1), 7, 23),
    ],
)
def test_a_sum_rounded_wrongly_is_not_proved(wrong):
    assert not prove_equal(wrong, lambda x: jnp.sum(x, -1), {"x": Z}).proved
    assert not prove_equal(wrong, lambda x: jnp.sum(jnp.exp(x), -1), {"x": Z}).proved


def test_what_exponentials_are_relative_to_is_taken_for_any_number():
    def shifted(x, move):
        c = _rows.row_origin(jnp.max(x, axis=-1))[:, None]
        return jnp.sum(jnp.exp(x - c), axis=-1) * jnp.exp(c[:, 0] + move(c[:, 0]))

    def wanted(x):
        return jnp.sum(jnp.exp(x), axis=-1)

    assert prove_equal(lambda x: shifted(x, lambda c: 0.0), wanted, {"x": Z}).proved
    # It is 0 for a maximum from 0 to 64, but no proof may rest on that.
    assert not prove_equal(lambda x: shifted(x, lambda c: 0.1 * c), wanted, {"x": Z}).proved


def test_the_sum_in_blocks_is_that_of_all_classes_but_the_label():
    """No theorem has it: at symbolic sizes a value alone is summed as beside its gradient."""

    def in_blocks(z, block, place, broken=0.0):
        m = jnp.max(z, (-2, -1))
        c = _rows.row_origin(m)
        return others_in_blocks(z, block, place, m - broken, c) / jnp.exp(m - c)

    def wanted(z, block, place):
        at = jax.lax.broadcasted_iota(block.dtype, z.shape, 1) == block[:, None, None]
        at &= jax.lax.broadcasted_iota(place.dtype, z.shape, 2) == place[:, None, None]
        e = jnp.exp(z - jnp.max(z, (-2, -1), keepdims=True))
        return jnp.sum(jnp.where(at, 0.0, e), (-2, -1))

    blocks, places = labels("n", classes="b"), labels("n", classes="w")
    args = {"z": array("n b w"), "block": blocks, "place": places}
    assert prove_equal(in_blocks, wanted, args).proved
    assert not prove_equal(lambda *a: in_blocks(*a, broken=1.0), wanted, args).proved


def test_another_function_of_that_name_is_read_as_it_is():
    @jax.jit
    def row_origin(x):
        return jnp.log(x)

    def fun(x):
        return x + (row_origin(x) - row_origin(x))  # NaN below 0

    assert not prove_equal(fun, lambda x: x, {"x": Z}).proved


def test_all_bits_kept_is_the_identity():
    def kept(x):
        return jax.lax.reduce_precision(x, 8, 23)

    assert prove_equal(kept, lambda x: x, {"x": Z}).proved


def test_what_is_stopped_is_not_read():
    def loss(z):
        return jnp.sum(z) + 0 * jax.lax.stop_gradient(jnp.sum(_rounded_once(jnp.exp(z))))

    assert prove_jvp(loss, {"z": Z}, ("z",), lambda z: jnp.sum(z)).proved


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


# Gradients: test_identities.
OTHERS = [pytest.param(t, id=t.name) for t in THEOREMS if t.kind != "gradient"]


@pytest.mark.slow
@pytest.mark.parametrize("theorem", OTHERS)
def test_what_ships_is_proved(theorem, monkeypatch):
    for search in ("vjp", "jvp"):  # no counterexample is looked for: the failure says enough
        monkeypatch.setattr(f"xent_jax.proofs._prover.counterexample.{search}", lambda *_: None)
    verdict = theorem.prove()
    assert verdict.proved, verdict.reason


@pytest.mark.parametrize("add_up", [lambda y: jnp.sum(y, dtype=jnp.int8), lambda y: jnp.dot(y, y)])
def test_a_sum_of_small_integers_is_refused(add_up):
    def fun(z, y):
        return z * add_up(y)

    verdict = prove_equal(fun, fun, {"z": array("n"), "y": array("n", dtype=jnp.int8)})
    assert verdict.status == "refused"
    assert "a sum or product in int8, which may overflow" in verdict.reason
