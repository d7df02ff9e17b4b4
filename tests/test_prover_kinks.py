"""Piecewise functions are proved almost everywhere, as the verdict says; wrong slopes are not."""

import jax
import jax.numpy as jnp
from xent_jax.proofs import array, prove_jvp, prove_vjp
from xent_jax.proofs._prover.verdict import OFF_KINKS
from xent_jax.proofs._theorems.theorem import Build, _prove

from tests import layers
from tests.rules import Rule, each, verdict_on, with_backward

ROW, MATRIX = {"x": array("n")}, {"x": array("n k")}
MASKED = ROW | {"m": array("n", dtype=bool)}


def relu(x):
    return jnp.maximum(x, 0)


def norm(x):
    return jnp.sqrt(jnp.sum(x * x, -1, keepdims=True))


def unit(g, x):
    """Returns ``g x / norm(x)``, and 0 where the norm is 0, so that a zero row gives no NaN."""
    zero = norm(x) == 0
    return jnp.where(zero, 0, g * x / jnp.where(zero, 1, norm(x)))


def pinball(x):
    return jnp.where(x < 0, -0.3 * x, 0.7 * x)


def on_ties(g, x):
    """Returns a gradient wrong at entries equal to their row's mean, as in rows of one entry."""
    return g * jnp.where(x == jnp.mean(x, -1, keepdims=True), 5, x > 0)


RULES = {
    "relu": Rule(relu, ROW, (
        lambda g, x: g * (x > 0),
        lambda g, x: g * (x >= 0),
    ), (
        lambda g, x: jnp.where(x > 0, g, 0.01 * g),
        lambda g, x: 0.99 * g * (x > 0),
        lambda g, x: g * (x > 1e-3),
        lambda g, x: jnp.where(g == 0, 1, g * (x > 0)),
    )),
    "relu of rows": Rule(relu, MATRIX, (None,), (on_ties,)),
    "pinball": Rule(pinball, ROW, (lambda g, x: g * jnp.where(x > 0, 0.7, -0.3),), (
        lambda g, x: g * jnp.where(x < 0, 0.7, -0.3),
    )),
    "clip": Rule(lambda x: jnp.clip(x, -1, 2), ROW, (lambda g, x: g * ((x > -1) & (x < 2)),), (
        lambda g, x: g * (x < 2),
    )),
    "kept above": Rule(lambda x: jnp.log(jnp.maximum(x, 0.1)), ROW, (
        lambda g, x: jnp.where(x > 0.1, g / jnp.maximum(x, 0.1), 0),
    ), (
        lambda g, x: g / jnp.maximum(x, 0.1),
    )),
    "Huber": Rule(layers.rlax_huber, ROW, (lambda g, x: g * jnp.clip(x, -1, 1),), (
        lambda g, x: g * jnp.clip(x, -1, 1.01),
        lambda g, x: g * jnp.minimum(x, 1),
    )),
    "norm": Rule(norm, MATRIX, (unit,), (
        lambda g, x: g * x / norm(x) ** 2,
        lambda g, x: -g * x / norm(x),
        lambda g, x: 2 * g * x / norm(x),
    )),
    "largest": Rule(lambda x: jnp.max(x, -1), MATRIX, (None,), (
        lambda g, x: g[:, None] * jnp.ones_like(x),
    )),
    "rounding": Rule(lambda x: x + jnp.floor(x), ROW, (lambda g, x: g,), (lambda g, x: 2 * g,)),
    "mask": Rule(lambda x, m: jnp.where(m, relu(x), 2 * x), MASKED, (
        lambda g, x, m: g * jnp.where(m, x > 0, 2),
    ), ()),
    "relu beside a mask": Rule(lambda x, m: relu(x), MASKED, (None,), (
        lambda g, x, m: g * jnp.where(x * m == 0, 1, x > 0),
    )),
    "rows": Rule(lambda x: relu(jnp.sum(x * x, -1) - 1), MATRIX, (
        lambda g, x: 2 * x * (g * (jnp.sum(x * x, -1) >= 1))[:, None],
    ), ()),
    "a sum of nothing": Rule(lambda x: jnp.where(jnp.sum(x[:-1]) == 0, 2.0, 1.0) * x[-1], ROW, (), (
        lambda g, x: jnp.zeros_like(x).at[-1].set(g),
    )),
}  # fmt: skip


@each(RULES, "right")
def test_pieces_are_proved_almost_everywhere(rule, backward):
    verdict = verdict_on(rule, backward)
    assert verdict.proved and OFF_KINKS in verdict.assumptions, verdict
    assert str(verdict) == f"proved: {OFF_KINKS}"


@each(RULES, "wrong")
def test_a_wrong_piece_is_not_proved(rule, backward, monkeypatch):
    monkeypatch.setattr("xent_jax.proofs._prover.counterexample.vjp", lambda *_: None)
    verdict = verdict_on(rule, backward)
    assert verdict.status in ("unknown", "refused"), verdict


def test_forward_mode_too():
    assert prove_jvp(relu, ROW, ("x",)).proved
    doubled = jax.custom_jvp(relu)
    doubled.defjvp(lambda p, t: (relu(*p), 2 * t[0] * (p[0] > 0)))
    assert not prove_jvp(doubled, ROW, ("x",)).proved


def test_kinks_can_be_refused():
    for prove in (prove_vjp, prove_jvp):
        verdict = prove(relu, ROW, ("x",), kinks=False, search=False)
        assert verdict.status == "refused" and "derivative of an inequality" in verdict.reason


def test_the_theorems_of_the_library_hold_everywhere():
    build = Build(relu, ROW, ("x",), relu)
    assert _prove("gradient", build).status == "refused"


def test_a_smooth_function_has_no_kinks_to_leave_out():
    """A backward that is wrong only at 0 is refuted."""
    square = with_backward(jnp.square, lambda g, x: jnp.where(x == 0, g, 2 * x * g))
    verdict = prove_vjp(square, ROW, ("x",))
    assert verdict.status == "refuted" and OFF_KINKS not in verdict.assumptions


def test_pieces_that_meet_smoothly_are_refuted_where_they_meet():
    wrong_at_0 = with_backward(
        lambda x: relu(x) ** 2, lambda g, x: g * jnp.where(x == 0, 1, 2 * relu(x))
    )
    verdict = prove_vjp(wrong_at_0, ROW, ("x",))
    assert verdict.status == "refuted" and "where pieces of the function meet" in verdict.reason
