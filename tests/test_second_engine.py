"""The second engine is exact at concrete shapes, and never claims more than it has proved."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

pytest.importorskip("sympy", reason="the proofs need SymPy: pip install xent-jax[proofs]")

from xent_jax.proofs._prover.spec import array, labels, scalar  # noqa: E402
from xent_jax.proofs._prover.verdict import Verdict  # noqa: E402
from xent_jax.proofs._theorems.shipped import THEOREMS  # noqa: E402

from tests.rules import with_backward  # noqa: E402
from tests.second_engine import command
from tests.second_engine.concrete import SIZES, prove_concrete, prove_theorem, sizes_of  # noqa: E402
from tests.second_engine.inputs import configurations  # noqa: E402
from tests.second_engine.piecewise import Pieces

pytestmark = pytest.mark.fast_compile

Z, Y = array("n k"), labels("n", classes="k")
TWO = ({"n": 1, "k": 2, "m": 1, "s": 1, "d": 1, "b": 1},)
GRADIENTS = [t for t in THEOREMS if t.kind == "gradient"]

# ------------------------------------------------------------------- what ships is proved


@pytest.mark.parametrize("theorem", GRADIENTS, ids=lambda t: t.name)
def test_every_gradient_is_proved_at_two_classes(theorem):
    verdict = prove_theorem(theorem, TWO)
    assert verdict.proved, verdict


# The first theorem of each function and kind. python -m tests.second_engine proves all theorems.
THOROUGH = [
    t
    for t in {(t.function, t.kind): t for t in reversed(THEOREMS)}.values()
    if "linear" not in t.function
]


@pytest.mark.slow
@pytest.mark.parametrize("theorem", THOROUGH, ids=lambda t: t.name)
def test_the_first_theorems_are_proved_at_every_shape_with_all_labellings(theorem):
    """So the engines agree: the one for all sizes proves them in test_prover_verdicts."""
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
    "twice": (_lse, lambda g, *args: (2 * g[..., None] * _softmax(args[0]),)),
    "no factor 2": (
        lambda z: 1e-4 * _lse(z) ** 2,
        lambda g, *args: ((g * 1e-4 * _lse(args[0]))[..., None] * _softmax(args[0]),),
    ),
    "first class": (
        _lse,
        lambda g, *args: (g[..., None] * _softmax(args[0])[..., :1] + 0 * args[0],),
    ),
    "at ties alone": (
        _lse,
        lambda g, *args: (
            g[..., None] * jnp.where(args[0] == jnp.roll(args[0], 1, -1), 0.75, _softmax(args[0])),
        ),
    ),
    "where one class dominates": (
        _lse,
        lambda g, *args: (
            g[..., None] * jnp.where(_softmax(args[0]) > 0.75, 1.0, _softmax(args[0])),
        ),
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_backward_is_refuted_at_a_point_where_it_is_wrong(name):
    value, backward = WRONG[name]
    verdict = prove_concrete(with_backward(value, backward), {"z": Z}, ("z",), sizes=TWO)
    assert verdict.status == "refuted", verdict
    z, g = (jnp.asarray(verdict.counterexample[key], jnp.float32) for key in ("z", "cotangent"))
    (claimed,) = backward(g, z)
    truth = g[..., None] * _softmax(z) if name != "no factor 2" else 2 * claimed
    assert not np.allclose(claimed, truth, rtol=1e-4, atol=1e-9)


def test_its_right_form_is_proved():
    right = with_backward(_lse, lambda g, *args: (g[..., None] * _softmax(args[0]),))
    assert prove_concrete(right, {"z": Z}, ("z",)).proved


def test_jax_through_max_is_refuted_at_the_kink():
    def stable(z, t):
        return jnp.maximum(z, 0) - z * t + jnp.log1p(jnp.exp(-jnp.abs(z)))

    verdict = prove_concrete(stable, {"z": scalar(), "t": scalar()}, ("z",), sizes=({},))
    assert verdict.status == "refuted"
    assert verdict.counterexample["z"] == 0


@pytest.mark.parametrize("reference", [None, _lse], ids=["alone", "reference"])
def test_a_rule_with_another_value_is_refuted(reference):
    """``jax.value_and_grad`` and ``jax.jvp`` return that value; the function's own is right."""
    fun = jax.custom_vjp(lambda z: _lse(z))
    fun.defvjp(lambda z: (2 * _lse(z), z), lambda z, g: (g[:, None] * jax.nn.softmax(z),))
    verdict = prove_concrete(fun, {"z": Z}, ("z",), reference, sizes=TWO)
    assert verdict.status == "refuted" and "the value that jax.vjp gives" in verdict.reason
    fun = jax.custom_jvp(lambda z: _lse(z))
    fun.defjvp(lambda z, v: (2 * _lse(*z), jax.jvp(_lse, z, v)[1]))
    verdict = prove_concrete(fun, {"z": Z}, ("z",), reference, sizes=TWO, derivative="jvp")
    assert verdict.status == "refuted" and "the value that jax.jvp gives" in verdict.reason


def test_a_right_gradient_of_the_wrong_function_is_refuted_by_the_reference():
    verdict = prove_concrete(lambda z: 2 * _lse(z), {"z": Z}, ("z",), _lse, sizes=TWO)
    assert verdict.status == "refuted"
    assert "reference" in verdict.reason


def test_only_the_sentinel_is_wrong():
    def loss(z, y):
        return jnp.where(y == -100, 0.0, _lse(z))

    def backward(g, *args):  # forgets the sentinel
        return g[..., None] * _softmax(args[0]), None

    wrong = with_backward(loss, backward)
    sentinel = labels("n", classes="k", ignore=-100)
    assert prove_concrete(wrong, {"z": Z, "y": Y}, ("z",), sizes=TWO).proved
    verdict = prove_concrete(wrong, {"z": Z, "y": sentinel}, ("z",), sizes=TWO)
    assert verdict.status == "refuted"
    assert verdict.counterexample["y"] == -100


def test_only_one_platform_is_wrong():
    def total(e):
        return lax.platform_dependent(e, cpu=lambda e: e.sum(-1), default=lambda e: 2 * e.sum(-1))

    verdict = prove_concrete(lambda z: jnp.log(total(jnp.exp(z))), {"z": Z}, ("z",), sizes=TWO)
    assert not verdict.proved
    assert "platform_dependent" in verdict.reason


# ------------------------------------------------------------------- sums rounded once


def _rounded(whole=lambda c, plain, rest: jnp.round(c * plain - rest), bits=8):
    """The shipped sum, as ``xent_jax._rows`` has it, with a part to exchange."""

    def total(z):
        x = jnp.exp(z)
        plain = x.sum(-1)
        c = lax.reduce_precision(131072 / plain, bits, 0)
        scaled = x * c[..., None]
        rest = (scaled - jnp.floor(scaled)).sum(-1)
        return (whole(c, plain, rest) + rest) / c

    return with_backward(total, lambda g, *args: (g[..., None] * jnp.exp(args[0]),))


def _sum_of_exponentials(z):
    return jnp.exp(z).sum(-1)


def test_a_sum_rounded_once_is_the_sum():
    verdict = prove_concrete(_rounded(), {"z": Z}, ("z",), _sum_of_exponentials)
    assert verdict.proved, verdict


ROUNDED = {
    "round of no integer": (_rounded(lambda c, plain, _: jnp.round(c * plain)), "refused", "round"),
    "round away from zero": (
        _rounded(lambda c, plain, rest: lax.round(c * plain - rest)), "refused", "round other"
    ),
    "a smaller exponent": (_rounded(bits=5), "refused", "exponent of fewer bits"),
    "a unit too much": (
        _rounded(lambda c, plain, rest: jnp.round(c * plain - rest) + 1), "refuted", "reference"
    ),
    "without the rest": (
        _rounded(lambda c, plain, rest: jnp.round(c * plain - rest) - rest), "refuted", "reference"
    ),
    "floor, not round": (
        _rounded(lambda c, plain, rest: jnp.floor(c * plain)), "refuted", "reference"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ROUNDED)
def test_a_sum_rounded_wrongly_is_not_proved(name):
    wrong, status, reason = ROUNDED[name]
    verdict = prove_concrete(wrong, {"z": Z}, ("z",), _sum_of_exponentials, sizes=TWO)
    assert (verdict.status, reason in verdict.reason) == (status, True), verdict


def test_fewer_bits_of_a_number_of_either_sign_are_refused():
    verdict = prove_concrete(
        lambda z: lax.reduce_precision(z, 8, 0), {"z": array("n")}, ("z",), lambda z: z
    )
    assert verdict.status == "refused"
    assert "reduce_precision" in verdict.reason


def test_a_value_that_depends_on_fewer_bits_is_not_proved():
    def moved(z):
        return z + lax.stop_gradient(lax.reduce_precision(jnp.exp(z), 8, 0))

    assert prove_concrete(moved, {"z": array("n")}, ("z",)).status == "unknown"


def test_all_bits_are_the_number_itself():
    verdict = prove_concrete(
        lambda z: lax.reduce_precision(z, 8, 23), {"z": array("n")}, ("z",), lambda z: z
    )
    assert verdict.proved, verdict


# ------------------------------------------------------------------- undecided is unknown


def test_a_value_with_a_kink_is_unknown():
    verdict = prove_concrete(lambda z: jnp.abs(z), {"z": array("n")}, ("z",))
    assert verdict.status == "unknown"
    assert "not one smooth function" in verdict.reason


def test_a_floor_that_does_not_cancel_is_not_proved():
    floored = with_backward(lambda z: z, lambda g, *args: (g * (1 + jnp.floor(args[0])),))
    assert not prove_concrete(floored, {"z": array("n")}, ("z",)).proved


def test_a_value_that_is_finite_nowhere_is_not_proved():
    verdict = prove_concrete(lambda z: z + jnp.inf, {"z": array("n")}, ("z",))
    assert verdict.status == "unknown"


UNREAD = {
    "sin": jnp.sin,
    "erf": lambda z: lax.erf(z),
    "sort": lambda z: jnp.sort(z, axis=-1),
    "cumsum": lambda z: lax.cumsum(z, axis=1),
    "argmax": lambda z: z * jnp.argmax(z, -1, keepdims=True),
    "while": lambda z: lax.while_loop(lambda c: c[0, 0] < 1, lambda c: c + 1, z),
    "rem": lambda z: lax.rem(z, z),
    "cummax": lambda z: lax.cummax(z, axis=1),
}


@pytest.mark.parametrize("name", UNREAD)
def test_an_unread_primitive_is_refused_by_name(name):
    opaque = with_backward(UNREAD[name], lambda g, *args: (g,))
    verdict = prove_concrete(opaque, {"z": Z}, ("z",), sizes=TWO)
    assert verdict.status == "refused"
    assert name in verdict.reason


# ------------------------------------------------------------------------- what is taken


def test_the_literal_of_a_third_is_a_third():
    third = np.float32(1 / 3)
    verdict = prove_concrete(
        lambda z: third * z * 3 - z, {"z": array("n")}, ("z",), lambda z: 0 * z
    )
    assert verdict.proved
    assert any("1/3" in a for a in verdict.assumptions)


def test_all_labellings_and_masks_are_taken():
    specs = {"z": Z, "y": labels("n", classes="k", ignore=-1), "m": array("n k", dtype=bool)}
    every = configurations(specs, {"n": 2, "k": 2})
    bits = list(itertools.product([False, True], repeat=4))
    expected = {(y, m) for y in itertools.product([0, 1, -1], repeat=2) for m in bits}
    assert {(tuple(c["y"]), tuple(c["m"].ravel())) for c in every} == expected


def test_a_mask_that_keeps_the_labels_is_free_elsewhere():
    specs = {"z": Z, "y": Y, "m": array("n k", dtype=bool, keeps="y")}
    every = configurations(specs, {"n": 1, "k": 3})
    assert len(every) == 3 * 4
    assert all(c["m"][0, c["y"][0]] for c in every)


def test_the_shapes_include_ties_of_three_and_two_rows():
    assert {(s["n"], s["k"]) for s in SIZES} >= {(1, 1), (1, 2), (1, 3), (2, 2)}


# --------------------------------------------------------------------------- the command


def test_the_command_proves_theorems_by_name(capsys):
    assert command.main(["--only", "softcap: *", "--jobs", "1"]) == 0
    printed = capsys.readouterr().out
    names = [t.name for t in THEOREMS if t.name.startswith("softcap: ")]
    assert all(f"{name}: proved (n = 1" in printed for name in names)
    assert f"{len(names)} theorems, 0 not proved" in printed


def test_the_command_fails_where_a_theorem_is_not_proved(monkeypatch, capsys):
    answers = (answer for answer in [(0, Verdict("unknown", reason="why"))])
    monkeypatch.setattr(command, "shared_out", lambda *_: answers)
    assert command.main(["--only", "softcap: gradient"]) == 1
    printed = capsys.readouterr().out
    assert "softcap: gradient: unknown: why" in printed and "1 not proved" in printed
