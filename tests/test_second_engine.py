"""The second engine is exact at concrete shapes, and never claims more than it has proved."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

pytest.importorskip("sympy", reason="the proofs need SymPy: pip install xent-jax[proofs]")

from xent_jax.proofs._prover.spec import array, labels, scalar  # noqa: E402
from xent_jax.proofs._theorems.shipped import THEOREMS  # noqa: E402

from tests.rules import with_backward  # noqa: E402
from tests.second_engine.concrete import SIZES, prove_concrete, prove_theorem, sizes_of  # noqa: E402
from tests.second_engine.piecewise import Pieces

pytestmark = pytest.mark.fast_compile

Z, Y = array("n k"), labels("n", classes="k")
TWO = ({"n": 1, "k": 2, "m": 1, "s": 1, "d": 1, "b": 1},)
# The first theorem of each function and kind. python -m tests.second_engine proves all theorems.
THOROUGH = {
    t.name: t
    for t in {(t.function, t.kind): t for t in reversed(THEOREMS)}.values()
    if "linear" not in t.function
}
OTHERS = [t for t in THEOREMS if t.kind == "gradient" and t.name not in THOROUGH]

# ------------------------------------------------------------------- what ships is proved


@pytest.mark.parametrize("theorem", OTHERS, ids=lambda t: t.name)
def test_every_other_gradient_is_proved_at_two_classes(theorem):
    verdict = prove_theorem(theorem, TWO)
    assert verdict.proved, verdict


@pytest.mark.slow
@pytest.mark.parametrize("theorem", THOROUGH.values(), ids=THOROUGH)
def test_the_first_theorems_are_proved_at_every_shape_with_all_labellings(theorem):
    """The engine for all sizes proves the same theorems in other tests, so the engines agree."""
    verdict = prove_theorem(theorem)
    assert verdict.proved, verdict
    done = [re.search(r"(\d+) of (\d+) labellings", a) for a in verdict.assumptions]
    done = [(int(m[1]), int(m[2])) for m in done if m]
    assert len(done) == len(sizes_of(theorem).split(";"))
    assert all(n == every > 0 for n, every in done)
    assert not any("not claimed" in a for a in verdict.assumptions)


@pytest.mark.parametrize("shortcut", ["_met", "_clearly_nonzero_at"])
def test_floats_only_save_time(shortcut, monkeypatch):
    (theorem,) = (t for t in THEOREMS if t.name == "softmax_kl_divergence: gradient")
    monkeypatch.setattr(Pieces, shortcut, lambda *_: False)
    assert prove_theorem(theorem, TWO).proved


@pytest.mark.parametrize("least, proved", [(0.0, True), (1.0, False)])
def test_a_value_alone_is_proved_piece_by_piece(least, proved):
    def kinked(z):
        return jnp.maximum(z, least)

    given = kinked, {"z": array("n k")}, (), lambda z: jnp.where(z > 0, z, 0.0)
    assert prove_concrete(*given, SIZES[:2], "value").proved == proved


# ------------------------------------------------------------------- what is wrong is not


def _softmax(z):
    e = jnp.exp(z - jnp.max(z, -1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def _lse(z):
    m = jnp.max(z, -1)
    return m + jnp.log(jnp.exp(z - m[..., None]).sum(-1))


WRONG = {
    "twice": (_lse, lambda g, z: 2 * g[..., None] * _softmax(z)),
    "no factor 2": (
        lambda z: 1e-4 * _lse(z) ** 2,
        lambda g, z: (g * 1e-4 * _lse(z))[..., None] * _softmax(z),
    ),
    "first class": (_lse, lambda g, z: g[..., None] * _softmax(z)[..., :1] + 0 * z),
    "at ties alone": (
        _lse,
        lambda g, z: g[..., None] * jnp.where(z == jnp.roll(z, 1, -1), 0.75, _softmax(z)),
    ),
    "where one class dominates": (
        _lse,
        lambda g, z: g[..., None] * jnp.where(_softmax(z) > 0.75, 1.0, _softmax(z)),
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_backward_is_refuted_at_a_point_where_it_is_wrong(name):
    value, backward = WRONG[name]
    verdict = prove_concrete(with_backward(value, backward), {"z": Z}, ("z",), sizes=TWO)
    assert verdict.status == "refuted", verdict
    z, g = (jnp.asarray(verdict.counterexample[key], jnp.float32) for key in ("z", "cotangent"))
    claimed = backward(g, z)
    truth = g[..., None] * _softmax(z) if name != "no factor 2" else 2 * claimed
    assert not np.allclose(claimed, truth, rtol=1e-4, atol=1e-9)


def test_jax_through_max_is_refuted_at_the_kink():
    def stable(z, t):
        return jnp.maximum(z, 0) - z * t + jnp.log1p(jnp.exp(-jnp.abs(z)))

    verdict = prove_concrete(stable, {"z": scalar(), "t": scalar()}, ("z",), sizes=({},))
    assert verdict.status == "refuted"
    assert verdict.counterexample["z"] == 0


@pytest.mark.parametrize("reference", [None, _lse], ids=["alone", "reference"])
def test_a_rule_with_another_value_is_refuted(reference):
    """``jax.value_and_grad`` and ``jax.jvp`` return the rule's value, not the function's own."""
    fun = jax.custom_vjp(lambda z: _lse(z))
    fun.defvjp(lambda z: (2 * _lse(z), z), lambda z, g: (g[:, None] * _softmax(z),))
    verdict = prove_concrete(fun, {"z": Z}, ("z",), reference, sizes=TWO)
    assert verdict.status == "refuted" and "the value that jax.vjp gives" in verdict.reason
    fun = jax.custom_jvp(lambda z: _lse(z))
    fun.defjvp(lambda z, v: (2 * _lse(*z), jax.jvp(_lse, z, v)[1]))
    verdict = prove_concrete(fun, {"z": Z}, ("z",), reference, sizes=TWO, derivative="jvp")
    assert verdict.status == "refuted" and "the value that jax.jvp gives" in verdict.reason


def test_only_the_sentinel_is_wrong():
    wrong = with_backward(
        lambda z, y: jnp.where(y == -100, 0.0, _lse(z)),
        lambda g, z, y: g[..., None] * _softmax(z),  # forgets the sentinel
    )
    sentinel = labels("n", classes="k", ignore=-100)
    assert prove_concrete(wrong, {"z": Z, "y": Y}, ("z",), sizes=TWO).proved
    verdict = prove_concrete(wrong, {"z": Z, "y": sentinel}, ("z",), sizes=TWO)
    assert verdict.status == "refuted"
    assert verdict.counterexample["y"] == -100


# ------------------------------------------------------------------- what else is not proved


def _rounded(whole=lambda c, plain, rest: jnp.round(c * plain - rest), bits=8):
    """Returns the sum that ``xent_jax._rows`` rounds once, with ``whole`` or ``bits`` exchanged."""

    def total(z):
        x = jnp.exp(z)
        plain = x.sum(-1)
        c = lax.reduce_precision(131072 / plain, bits, 0)
        scaled = x * c[..., None]
        rest = (scaled - jnp.floor(scaled)).sum(-1)
        return (whole(c, plain, rest) + rest) / c

    return with_backward(total, lambda g, z: g[..., None] * jnp.exp(z))


def _sum_of_exp(z):
    return jnp.exp(z).sum(-1)


def _of_platforms(z):
    total = lax.platform_dependent(
        jnp.exp(z), cpu=lambda e: e.sum(-1), default=lambda e: 2 * e.sum(-1)
    )
    return jnp.log(total)


def _moved(z):
    """Returns z plus a stopped value of fewer bits, so that a sum depends on the rounding."""
    return z + lax.stop_gradient(lax.reduce_precision(jnp.exp(z), 8, 0))


PROVED = {
    "log-sum-exp": (with_backward(_lse, lambda g, z: g[..., None] * _softmax(z)), None),
    "a sum rounded once": (_rounded(), _sum_of_exp),
    "all bits": (lambda z: lax.reduce_precision(z, 8, 23), lambda z: z),
}
NOT_PROVED = {
    "another function": (lambda z: 2 * _lse(z), _lse, "refuted", "reference"),
    "another platform": (_of_platforms, None, "unknown", "platform_dependent"),
    "a kink": (lambda z: jnp.abs(z), None, "unknown", "not one smooth function"),
    "finite nowhere": (lambda z: z + jnp.inf, None, "unknown", ""),
    "a floor that does not cancel": (
        with_backward(lambda z: z, lambda g, z: g * (1 + jnp.floor(z))), None, "refuted", "vjp"
    ),
    "fewer bits of either sign": (
        lambda z: lax.reduce_precision(z, 8, 0), lambda z: z, "refused", "reduce_precision"
    ),
    "moved by fewer bits": (_moved, None, "unknown", ""),
    "round of no integer": (
        _rounded(lambda c, plain, _: jnp.round(c * plain)), _sum_of_exp, "refused", "round"),
    "round away from zero": (
        _rounded(lambda c, plain, rest: lax.round(c * plain - rest)), _sum_of_exp,
        "refused", "round other"),
    "a smaller exponent": (_rounded(bits=5), _sum_of_exp, "refused", "exponent of fewer bits"),
    "a unit too much": (
        _rounded(lambda c, plain, rest: jnp.round(c * plain - rest) + 1), _sum_of_exp,
        "refuted", "reference"),
    "without the rest": (
        _rounded(lambda c, plain, rest: jnp.round(c * plain - rest) - rest), _sum_of_exp,
        "refuted", "reference"),
    "floor, not round": (
        _rounded(lambda c, plain, rest: jnp.floor(c * plain)), _sum_of_exp, "refuted", "reference"),
    **{
        name: (with_backward(unread, lambda g, z: g), None, "refused", name)
        for name, unread in {
            "sin": jnp.sin,
            "erf": lambda z: lax.erf(z),
            "sort": lambda z: jnp.sort(z, axis=-1),
            "cumsum": lambda z: lax.cumsum(z, axis=1),
            "argmax": lambda z: z * jnp.argmax(z, -1, keepdims=True),
            "while": lambda z: lax.while_loop(lambda c: c[0, 0] < 1, lambda c: c + 1, z),
            "rem": lambda z: lax.rem(z, z),
            "cummax": lambda z: lax.cummax(z, axis=1),
        }.items()
    },
}  # fmt: skip


@pytest.mark.parametrize(("fun", "reference"), PROVED.values(), ids=PROVED)
def test_what_is_right_is_proved(fun, reference):
    verdict = prove_concrete(fun, {"z": Z}, ("z",), reference)
    assert verdict.proved, verdict


@pytest.mark.parametrize(
    ("fun", "reference", "status", "reason"), NOT_PROVED.values(), ids=NOT_PROVED
)
def test_what_is_wrong_or_undecided_is_not_proved(fun, reference, status, reason):
    verdict = prove_concrete(fun, {"z": Z}, ("z",), reference, sizes=TWO)
    assert (verdict.status, reason in verdict.reason) == (status, True), verdict


def test_the_literal_of_a_third_is_a_third():
    third = np.float32(1 / 3)
    verdict = prove_concrete(lambda z: third * z * 3 - z, {"z": Z}, ("z",), lambda z: 0 * z)
    assert verdict.proved
    assert any("1/3" in a for a in verdict.assumptions)
