"""The prover's rules all read this version of JAX, and untested versions are refused."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from jax import lax

pytest.importorskip("sympy", reason="the proofs need SymPy: pip install xent-jax[proofs]")

from xent_jax.proofs import array, labels, prove_vjp  # noqa: E402
from xent_jax.proofs._jax_internals import ANYWAY, READ  # noqa: E402
from xent_jax.proofs._normal_form import almost_everywhere  # noqa: E402
from xent_jax.proofs._prover.read import RULES, least_sizes, read  # noqa: E402
from xent_jax.proofs._prover.trace import arguments, trace  # noqa: E402
from xent_jax.proofs._refutation.digits import DIGITS, Digits, Unread, exact  # noqa: E402

from tests.second_engine.concrete import prove_concrete  # noqa: E402
from tests.terms import agree  # noqa: E402

pytestmark = pytest.mark.fast_compile

INPUTS = {
    "x": np.array([[-1.5, 0.5, 2.5], [0.0, -0.3, 1.7]]),
    "p": np.array([[0.2, 3.0, 0.9], [1.0, 2.2, 0.5]]),
    "y": np.array([2, 0], np.int32),
}
SPECS = {"x": array("n k"), "p": array("n k", positive=True), "y": labels("n", classes="k")}


@jax.custom_vjp
def doubled(x):
    return 2 * x


doubled.defvjp(lambda x: (2 * x, ()), lambda _, g: (2 * g,))


def label(x, y):
    return jnp.take_along_axis(x, y[:, None], -1, mode="clip")


def by_platform(x, p, y):
    return lax.platform_dependent(x, cpu=lambda x: 2 * x, default=lambda x: x + x)


def over_shards(merge):
    return lambda x, p, y: jax.vmap(lambda row: row - merge(row, "i"), axis_name="i")(x)


def on_one_device(x, p, y):
    return lax.with_sharding_constraint(x, jax.sharding.SingleDeviceSharding(jax.devices()[0]))


MEETS = {
    "abs": lambda x, p, y: jnp.abs(x),
    "add": lambda x, p, y: x + p,
    "add_any": lambda x, p, y: jax.grad(lambda x: jnp.sum(x * x))(x),
    "and": lambda x, p, y: jnp.where((x > 0) & (p > 1), x, p),
    "atan": lambda x, p, y: jnp.arctan(x),
    "atan2": lambda x, p, y: jnp.arctan2(x, p),
    "broadcast_in_dim": lambda x, p, y: x + jnp.sum(p, -1, keepdims=True),
    "ceil": lambda x, p, y: jnp.ceil(x),
    "clamp": lambda x, p, y: lax.clamp(jnp.asarray(-1, x.dtype), x, jnp.asarray(1, x.dtype)),
    "concatenate": lambda x, p, y: jnp.concatenate([x, p, -x], 1),
    "cond": by_platform,
    "convert_element_type": lambda x, p, y: x * y[:, None],
    "copy": lambda x, p, y: jnp.array(x, copy=True),
    "cos": lambda x, p, y: jnp.cos(x),
    "cosh": lambda x, p, y: jnp.cosh(x),
    "cumlogsumexp": lambda x, p, y: lax.cumlogsumexp(x, 1) * lax.cumlogsumexp(x, 1, reverse=True),
    "cummax": lambda x, p, y: lax.cummax(x, 1) * lax.cummax(x, 1, reverse=True),
    "cummin": lambda x, p, y: lax.cummin(x, 1) * lax.cummin(x, 1, reverse=True),
    "cumprod": lambda x, p, y: lax.cumprod(p, 1) / lax.cumprod(p, 1, reverse=True) ** 2,
    "cumsum": lambda x, p, y: lax.cumsum(x, 1) * lax.cumsum(p, 1, reverse=True),
    "custom_jvp_call": lambda x, p, y: jax.nn.relu(x),
    "custom_vjp_call": lambda x, p, y: doubled(x),
    "custom_vjp_call_jaxpr": lambda x, p, y: doubled(x),
    "dim_as_value": lambda x, p, y: x * x.shape[1],
    "div": lambda x, p, y: x / p,
    "dot_general": lambda x, p, y: x.T @ p,
    "dynamic_slice": lambda x, p, y: lax.dynamic_slice(x, (0, 0), (1, x.shape[1])),
    "dynamic_update_slice": lambda x, p, y: lax.dynamic_update_slice(x, 2 * p[:1], (0, 0)),
    "eq": lambda x, p, y: jnp.where(x == 0.5, p, x),
    "erf": lambda x, p, y: lax.erf(x),
    "erfc": lambda x, p, y: lax.erfc(x),
    "exp": lambda x, p, y: jnp.exp(x),
    "exp2": lambda x, p, y: jnp.exp2(x),
    "expm1": lambda x, p, y: jnp.expm1(x),
    "floor": lambda x, p, y: jnp.floor(x),
    "gather": lambda x, p, y: label(x, y),
    "ge": lambda x, p, y: jnp.where(x >= 0.5, p, x),
    "gt": lambda x, p, y: jnp.where(x > 0.5, p, x),
    "integer_pow": lambda x, p, y: x**3,
    "iota": lambda x, p, y: jnp.arange(x.shape[1]) * x,
    "is_finite": lambda x, p, y: jnp.where(jnp.isfinite(x), x, p),
    "jit": lambda x, p, y: jax.jit(jnp.tanh)(x),
    "le": lambda x, p, y: jnp.where(x <= 0.5, p, x),
    "log": lambda x, p, y: jnp.log(p),
    "log1p": lambda x, p, y: jnp.log1p(p),
    "logistic": lambda x, p, y: jax.nn.sigmoid(x),
    "lt": lambda x, p, y: jnp.where(x < 0.5, p, x),
    "max": lambda x, p, y: jnp.maximum(x, p),
    "min": lambda x, p, y: jnp.minimum(x, p),
    "mul": lambda x, p, y: x * p,
    "ne": lambda x, p, y: jnp.where(x != 0.5, p, x),
    "neg": lambda x, p, y: -x,
    "not": lambda x, p, y: jnp.where(~(x > 0.5), p, x),
    "one_minus_square": lambda x, p, y: jax.grad(lambda x: jnp.sum(jnp.tanh(x)))(x),
    "optimization_barrier": lambda x, p, y: lax.optimization_barrier(x),
    "or": lambda x, p, y: jnp.where((x > 0) | (p > 1), x, p),
    "pad": lambda x, p, y: lax.pad(x, jnp.asarray(2, x.dtype), ((1, 0, 0), (0, 2, 1))),
    "pjit": lambda x, p, y: jax.jit(jnp.tanh)(x),
    "platform_index": by_platform,
    "pmax": over_shards(lax.pmax),
    "pow": lambda x, p, y: p**1.5,
    "psum": over_shards(lax.psum),
    "reduce_and": lambda x, p, y: jnp.where(jnp.all(x > 0, -1, keepdims=True), x, p),
    "reduce_max": lambda x, p, y: x - jnp.max(x, -1, keepdims=True),
    "reduce_or": lambda x, p, y: jnp.where(jnp.any(x > 1, -1, keepdims=True), x, p),
    "reduce_precision": lambda x, p, y: lax.reduce_precision(x, 8, 23),
    "reduce_prod": lambda x, p, y: jnp.prod(p, -1),
    "reduce_sum": lambda x, p, y: jnp.sum(x, -1),
    "remat2": lambda x, p, y: jax.checkpoint(jnp.tanh)(x),
    "reshape": lambda x, p, y: jnp.reshape(x, (x.shape[0], 1, x.shape[1])),
    "rev": lambda x, p, y: x[:, ::-1],
    "round": lambda x, p, y: jnp.round(x),
    "rsqrt": lambda x, p, y: lax.rsqrt(p),
    "scan": lambda x, p, y: lax.scan(lambda s, r: (s + r[0] * r[1], r[0]), 0 * x[0], (x, p)),
    "scatter": lambda x, p, y: x.at[0].set(p[0] + 1),
    "scatter-add": lambda x, p, y: jax.grad(lambda x: jnp.sum(label(x, y) * 2))(x),
    "select_n": lambda x, p, y: jnp.where(x > 0.5, p, x),
    "sharding_constraint": on_one_device,
    "sign": lambda x, p, y: jnp.sign(x),
    "sin": lambda x, p, y: jnp.sin(x),
    "sinh": lambda x, p, y: jnp.sinh(x),
    "slice": lambda x, p, y: lax.slice_in_dim(x, 0, 1, axis=1),
    "sort": lambda x, p, y: x[jnp.argsort(jnp.arange(x.shape[0])[::-1])],
    "split": lambda x, p, y: sum(jnp.split(jnp.concatenate([x, p], 1), 2, 1)),
    "sqrt": lambda x, p, y: jnp.sqrt(p),
    "square": lambda x, p, y: jnp.square(x),
    "squeeze": lambda x, p, y: jnp.squeeze(jnp.sum(x, -1, keepdims=True), -1),
    "stack": lambda x, p, y: jnp.stack([x, p], 1),
    "stop_gradient": lambda x, p, y: lax.stop_gradient(x),
    "sub": lambda x, p, y: x - p,
    "tan": lambda x, p, y: jnp.tan(x),
    "tanh": lambda x, p, y: jnp.tanh(x),
    "transpose": lambda x, p, y: x.T,
    "unstack": lambda x, p, y: sum(jnp.unstack(jnp.stack([x, p]))),
    "while": lambda x, p, y: lax.fori_loop(0, x.shape[0], lambda i, s: s + x[i], 0 * p[0]),
    "xor": lambda x, p, y: jnp.where((x > 0) ^ (p > 1), x, p),
}

JAX = jax.__version_info__[:2]
BEFORE_07, FROM_07 = {"custom_vjp_call_jaxpr", "pjit"}, {"custom_vjp_call", "jit"}
FROM_11 = {"one_minus_square"}
STACKS = {name for name in ("stack", "unstack") if not hasattr(lax, f"{name}_p")}
ABSENT = (BEFORE_07 if JAX >= (0, 7) else FROM_07) | (FROM_11 if JAX < (0, 11) else set()) | STACKS
"""Rules for primitives that only other versions of JAX trace."""

POLES = {"tan"}
"""Primitives that are read almost everywhere only, because they have poles."""


def inside(jaxpr):
    """Yields the names of all primitives, also of those in inner jaxprs."""
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        for value in equation.params.values():
            for one in value if isinstance(value, tuple | list) else [value]:
                inner = getattr(one, "jaxpr", one)
                if hasattr(inner, "eqns"):
                    yield from inside(inner)


def test_every_rule_has_an_example():
    assert set(RULES) == set(MEETS)


@pytest.mark.parametrize("name", sorted(MEETS))
def test_the_rule_is_met_and_reads_the_numbers_that_this_jax_computes(name):
    least_sizes.set({})
    a = arguments(SPECS)
    jaxpr = trace(MEETS[name], a.shapes)
    assert (name in set(inside(jaxpr.jaxpr))) == (name not in ABSENT)
    with almost_everywhere(frozenset(a.symbols.values()) if name in POLES else frozenset()):
        terms = read(jaxpr, a.tensors)
    agree(MEETS[name], SPECS, terms, INPUTS, {"n": 2, "k": 3})


UNREAD = {"cumlogsumexp", "scatter", "sharding_constraint"}
ROUNDS = {"reduce_precision"}  # which is the identity over the real numbers


@pytest.mark.parametrize("name", sorted(set(MEETS) - UNREAD - ROUNDS))
def test_the_search_for_numbers_computes_it_as_jax_does(name, float64):
    with mpmath.workdps(DIGITS):
        found = Digits(MEETS[name])(*map(exact, INPUTS.values()))
    wanted = jax.tree.leaves(MEETS[name](*map(jnp.asarray, INPUTS.values())))
    for numbers, computed in zip(found, wanted, strict=True):
        # JAX's own functions err by a few units of 1e-16, relative, or absolute where they are 0.
        np.testing.assert_allclose(numbers.astype(float), computed, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("name", sorted(UNREAD))
def test_the_search_refuses_by_name_what_it_does_not_read(name):
    with pytest.raises(Unread, match=f"the primitive {name}"):
        Digits(MEETS[name])(*map(exact, INPUTS.values()))


@pytest.mark.parametrize("power", [jnp.square, lambda y: y**2, lambda y: y**3, lambda y: y * y])
def test_powers_of_integers_rest_on_32_bits(power):
    verdict = prove_vjp(lambda x, y: x * power(y)[:, None], {k: SPECS[k] for k in "xy"}, ("x",))
    assert verdict.proved
    assert "integer arithmetic does not leave 32 bits" in verdict.assumptions


engines = pytest.mark.parametrize(
    "prove", [prove_vjp, prove_concrete], ids=["all sizes", "small sizes"]
)
X = {"x": array("n")}, ("x",)


@engines
def test_rounding_halves_other_than_to_even_is_refused(prove):
    verdict = prove(lambda x: x * lax.round(x, lax.RoundingMethod.AWAY_FROM_ZERO), *X)
    assert verdict.status == "refused"
    assert "round other than to even" in verdict.reason


def test_this_jax_is_among_the_versions_read():
    assert ".".join(jax.__version__.split(".")[:2]) in READ


@engines
@pytest.mark.parametrize("version", ["0.99.0", "0.5.3", "1.0.0"])
def test_another_version_is_refused_by_name(prove, version, monkeypatch):
    monkeypatch.delenv(ANYWAY, raising=False)
    monkeypatch.setattr(jax, "__version__", version)
    verdict = prove(jnp.tanh, *X)
    assert verdict.status == "refused"
    for part in (f"jax {version}", f"{READ[0]} to {READ[-1]}", f"{ANYWAY}=1"):
        assert part in verdict.reason


@engines
def test_a_proof_on_another_version_says_so(prove, monkeypatch):
    monkeypatch.setenv(ANYWAY, "1")
    monkeypatch.setattr(jax, "__version__", "0.99.0")
    verdict = prove(jnp.tanh, *X)
    assert verdict.proved
    assert any("jax 0.99.0, which was not tested" in text for text in verdict.assumptions)
