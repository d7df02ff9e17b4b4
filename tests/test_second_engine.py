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
from xent_jax.proofs._refutation.entries import Refused  # noqa: E402
from xent_jax.proofs._theorems.shipped import THEOREMS  # noqa: E402

from tests.second_engine import command
from tests.second_engine.concrete import SIZES, prove_concrete, prove_theorem, sizes_of  # noqa: E402
from tests.second_engine.exact import Field
from tests.second_engine.extended import Arithmetic, Special  # noqa: E402
from tests.second_engine.inputs import configurations  # noqa: E402
from tests.second_engine.piecewise import Node, Pieces  # noqa: E402
from tests.second_engine.rationals import Number
from tests.second_engine.reading import ExactReader  # noqa: E402

pytestmark = pytest.mark.fast_compile

Z, Y = array("n k"), labels("n", classes="k")
TWO = ({"n": 1, "k": 2, "m": 1, "s": 1, "d": 1, "b": 1},)
GRADIENTS = [t for t in THEOREMS if t.kind == "gradient"]

# ------------------------------------------------------------------- what ships is proved


@pytest.mark.parametrize("theorem", GRADIENTS, ids=lambda t: t.name)
def test_every_gradient_is_proved_at_two_classes(theorem):
    verdict = prove_theorem(theorem, TWO)
    assert verdict.proved, verdict


# Of each function and kind the first; python -m tests.second_engine proves each, in many minutes.
TOO_LONG = {("softmax_jensen_shannon_divergence", "second order")}  # more than four minutes
THOROUGH = [
    t
    for kind, t in {(t.function, t.kind): t for t in reversed(THEOREMS)}.items()
    if "linear" not in t.function and kind not in TOO_LONG
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


@pytest.mark.parametrize("least, proved", [(0.0, True), (1.0, False)])
def test_a_value_alone_is_proved_piece_by_piece(least, proved):
    def kinked(z):
        return jnp.maximum(z, least)

    given = kinked, {"z": array("n k")}, (), lambda z: jnp.where(z > 0, z, 0.0)
    assert prove_concrete(*given, SIZES[:2], "value").proved == proved


# ------------------------------------------------------------------- what is wrong is not


def _with_backward(value, backward):
    """A function with a backward of its own."""
    function = jax.custom_vjp(value)
    function.defvjp(lambda *args: (value(*args), args), backward)
    return function


def _softmax(z):
    e = jnp.exp(z - jnp.max(z, -1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def _lse(z):
    m = jnp.max(z, -1)
    return m + jnp.log(jnp.exp(z - m[..., None]).sum(-1))


WRONG = {
    "twice": (_lse, lambda args, g: (2 * g[..., None] * _softmax(args[0]),)),
    "no factor 2": (
        lambda z: 1e-4 * _lse(z) ** 2,
        lambda args, g: ((g * 1e-4 * _lse(args[0]))[..., None] * _softmax(args[0]),),
    ),
    "first class": (
        _lse,
        lambda args, g: (g[..., None] * _softmax(args[0])[..., :1] + 0 * args[0],),
    ),
    "at ties alone": (
        _lse,
        lambda args, g: (
            g[..., None] * jnp.where(args[0] == jnp.roll(args[0], 1, -1), 0.75, _softmax(args[0])),
        ),
    ),
    "where one class dominates": (
        _lse,
        lambda args, g: (
            g[..., None] * jnp.where(_softmax(args[0]) > 0.75, 1.0, _softmax(args[0])),
        ),
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_backward_is_refuted_at_a_point_where_it_is_wrong(name):
    value, backward = WRONG[name]
    verdict = prove_concrete(_with_backward(value, backward), {"z": Z}, ("z",), sizes=TWO)
    assert verdict.status == "refuted", verdict
    z, g = (jnp.asarray(verdict.counterexample[key], jnp.float32) for key in ("z", "cotangent"))
    (claimed,) = backward((z,), g)
    truth = g[..., None] * _softmax(z) if name != "no factor 2" else 2 * claimed
    assert not np.allclose(claimed, truth, rtol=1e-4, atol=1e-9)


def test_its_right_form_is_proved():
    right = _with_backward(_lse, lambda args, g: (g[..., None] * _softmax(args[0]),))
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

    def backward(args, g):  # forgets the sentinel
        return g[..., None] * _softmax(args[0]), None

    wrong = _with_backward(loss, backward)
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

    return _with_backward(total, lambda args, g: (g[..., None] * jnp.exp(args[0]),))


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
    floored = _with_backward(lambda z: z, lambda args, g: (g * (1 + jnp.floor(args[0])),))
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
    opaque = _with_backward(UNREAD[name], lambda args, g: (g,))
    verdict = prove_concrete(opaque, {"z": Z}, ("z",), sizes=TWO)
    assert verdict.status == "refused"
    assert name in verdict.reason


# --------------------------------------------------- each primitive, against JAX's own run


def _run(function, *arrays):
    """The engine's outputs on exact constants, as float64."""
    field = Field(64)
    reader = ExactReader(Arithmetic(Pieces(field)))
    jaxpr = jax.make_jaxpr(function)(*arrays)
    (out,) = reader.run(jaxpr, *map(reader.constant, arrays))
    return np.array([_number(field, x) for x in out.ravel()], float).reshape(out.shape)


def _number(field, x):
    assert not isinstance(x, Node)
    if isinstance(x, Special):
        return float(x.value)
    return float(field.expression(x).evalf(20)) if isinstance(x, Number) else float(x)


POSITIVE = {"log", "log1p", "pow", "sqrt"}
ELEMENTWISE = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / y,
    "neg": lambda x, y: -x,
    "max": jnp.maximum,
    "min": jnp.minimum,
    "clamp": lambda x, y: lax.clamp(jnp.minimum(x, y), x * y, jnp.maximum(x, y)),
    "exp": lambda x, y: jnp.exp(x),
    "log": lambda x, y: jnp.log(x),
    "log1p": lambda x, y: jnp.log1p(x),
    "expm1": lambda x, y: jnp.expm1(x),
    "tanh": lambda x, y: jnp.tanh(x),
    "one_minus_square": lambda x, y: jax.jvp(jnp.tanh, (x,), (y,))[1],  # since jax 0.11
    "pow": lambda x, y: lax.pow(x, y),
    "integer_pow": lambda x, y: lax.integer_pow(x, 3),
    "integer_pow below 0": lambda x, y: lax.integer_pow(x, -2),
    "square": lambda x, y: lax.square(x),
    "abs": lambda x, y: jnp.abs(x),
    "sign": lambda x, y: jnp.sign(x),
    "floor": lambda x, y: jnp.floor(x),
    "round": lambda x, y: jnp.round(x),
    "is_finite": lambda x, y: jnp.isfinite(x),
    "eq": lambda x, y: x == y,
    "ne": lambda x, y: x != y,
    "lt": lambda x, y: x < y,
    "le": lambda x, y: x <= y,
    "gt": lambda x, y: x > y,
    "ge": lambda x, y: x >= y,
    "and": lambda x, y: (x > 0) & (y > 0),
    "or": lambda x, y: (x > 0) | (y > 0),
    "not": lambda x, y: ~(x > y),
    "select_n": lambda x, y: jnp.where(x > y, x, 3 * y),
    "convert_element_type": lambda x, y: (x > y).astype(jnp.float32) + (y > 0).astype(jnp.int32),
    "stop_gradient": lambda x, y: lax.stop_gradient(x) + y,
}
SHAPES = {
    "reduce_sum": lambda x, y: x.sum(0) + y.sum(),
    "reduce_max": lambda x, y: x.max(1),
    "reduce_or": lambda x, y: (x > y).any(1),
    "reduce_and": lambda x, y: (x > y).all(0),
    "broadcast_in_dim": lambda x, y: x[:, None, :] + y[None, :, :],
    "reshape": lambda x, y: x.reshape(3, 2),
    "transpose": lambda x, y: x.T,
    "squeeze": lambda x, y: x[:1].squeeze(0),
    "iota": lambda x, y: lax.broadcasted_iota(jnp.int32, (2, 3), 1) + x,
    "concatenate": lambda x, y: jnp.concatenate([x, y, x], 1),
    "slice": lambda x, y: x[:, 1:3],
    "rev": lambda x, y: x[:, ::-1],
    "dynamic_slice": lambda x, y: lax.dynamic_slice(x, (1, 1), (1, 2)),
    "gather": lambda x, y: jnp.take_along_axis(x, jnp.array([[2], [0]]), 1, mode="clip"),
    "gather out of bounds": lambda x, y: x.at[jnp.array([1, 7])].get(mode="fill"),
    "scatter-add": lambda x, y: x.at[jnp.array([1, 1]), jnp.array([0, 2])].add(y[0, :2]),
    "cond": lambda x, y: lax.cond(jnp.array(True), lambda v: v + 1, lambda v: -v, x),
    "platform_index": lambda x, y: lax.platform_dependent(
        x, cpu=lambda v: v + v, default=lambda v: 2 * v
    ),
    "remat2": lambda x, y: jax.checkpoint(lambda v: v * v)(x),
    "jit": lambda x, y: jax.jit(lambda v: v - 1)(x),
    "custom_jvp_call": lambda x, y: jax.nn.relu(x),
    "custom_vjp_call": lambda x, y: _with_backward(lambda v: v * 5, lambda _, g: (g,))(x),
}


@pytest.mark.parametrize("name", ELEMENTWISE)
@pytest.mark.parametrize("seed", range(3))
def test_an_elementwise_rule_is_jax_own(name, seed):
    rng = np.random.default_rng((20, seed))
    x, y = (rng.integers(-8, 9, (2, 3)).astype(np.float32) / 4 for _ in range(2))
    y[0, 0] = x[0, 0]  # a tie
    y = np.where(y == 0, np.float32(0.5), y)
    x = np.abs(x) + np.float32(0.25) if name in POSITIVE else np.where(x == 0, np.float32(1), x)
    expected = np.asarray(ELEMENTWISE[name](jnp.asarray(x), jnp.asarray(y)), float)
    np.testing.assert_allclose(_run(ELEMENTWISE[name], x, y), expected, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize(
    "name", ["add", "sub", "mul", "max", "min", "exp", "abs", "tanh", "lt", "ge", "ne", "is_finite"]
)
def test_infinities_and_nan_are_jax_own(name):
    special = np.array([np.inf, -np.inf, np.nan, 1.5, -2.0], np.float32)
    x, y = (a.ravel() for a in np.meshgrid(special, special))
    expected = np.asarray(ELEMENTWISE[name](jnp.asarray(x), jnp.asarray(y)), float)
    np.testing.assert_allclose(_run(ELEMENTWISE[name], x, y), expected, rtol=2e-6)


@pytest.mark.parametrize("name", SHAPES)
def test_a_rule_of_shapes_or_control_is_jax_own(name):
    rng = np.random.default_rng(7)
    x, y = (rng.integers(-8, 9, (2, 3)).astype(np.float32) / 4 for _ in range(2))
    expected = np.asarray(SHAPES[name](jnp.asarray(x), jnp.asarray(y)), float)
    np.testing.assert_allclose(_run(SHAPES[name], x, y), expected, rtol=2e-6, atol=1e-6)


def test_every_rule_is_compared():
    rules = set(ExactReader(Arithmetic(Pieces(Field(8)))).elementwise)
    compared = {name.split()[0] for name in ELEMENTWISE}
    assert rules - compared == {"add_any"}  # as add, which JAX makes only in transposes


def test_a_primitive_without_a_rule_raises():
    with pytest.raises(Refused, match="sin"):
        _run(jnp.sin, np.ones(2, np.float32))


def test_an_exponential_is_split_over_the_terms_of_a_quotient_by_a_product():
    field = Field(32)
    a, b, t, u = (field.symbol(name, positive=name in "tu") for name in "abtu")
    over = field.inverse(field.multiply(t, u))
    split = [field.exp(field.multiply(x, over)) for x in (a, b)]
    assert field.exp(field.multiply(field.add(a, b), over)) == field.multiply(*split)
    assert field.exp(field.multiply(field.multiply(t, a), field.inverse(t))) == field.exp(a)
    assert field.exp(field.multiply(a, field.inverse(t))) != field.exp(a)
    whole = field.exp(field.multiply(field.add(a, b), field.inverse(field.add(t, u))))
    assert [sum(powers) for powers in whole.numerator.monoms()] == [1]  # one new exponential


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
