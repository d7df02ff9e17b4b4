"""The second engine computes each primitive as JAX does, on exact numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sympy as sp
from jax import lax

pytest.importorskip("sympy", reason="the proofs need SymPy: pip install xent-jax[proofs]")

from xent_jax.proofs._refutation.entries import Refused  # noqa: E402

from tests.rules import with_backward  # noqa: E402
from tests.second_engine.exact import Field
from tests.second_engine.extended import Arithmetic, Special  # noqa: E402
from tests.second_engine.piecewise import Node, Pieces  # noqa: E402
from tests.second_engine.poly import Ring
from tests.second_engine.rationals import Number
from tests.second_engine.reading import ExactReader  # noqa: E402

pytestmark = pytest.mark.fast_compile

# ------------------------------------------------------------------- polynomials


GENERATORS = sp.symbols("a0:3")


def _drawn(rng):
    """Returns a drawn polynomial of the ring, and the same polynomial in SymPy."""
    ring = Ring(3)
    poly, expression = ring.zero, sp.S.Zero
    for _ in range(4):
        monomial, value = rng.integers(0, 3, 3).tolist(), sp.Rational(*rng.integers(1, 7, 2))
        value *= rng.choice([-1, 1])
        product = ring.constant(value)
        for generator, exponent in zip(ring.generators, monomial, strict=True):
            product *= generator**exponent
        poly += product
        expression += value * sp.Mul(*map(sp.Pow, GENERATORS, monomial))
    return poly, expression


def _expression(poly):
    return sp.Add(
        *(sp.Rational(str(c)) * sp.Mul(*map(sp.Pow, GENERATORS, m)) for m, c in poly.terms)
    )


def _same(poly, expression):
    return sp.expand(_expression(poly) - expression) == 0


@pytest.mark.parametrize("seed", range(3))
def test_polynomials_are_those_of_sympy(seed):
    rng = np.random.default_rng((21, seed))
    (x, of_x), (y, of_y) = _drawn(rng), _drawn(rng)
    assert _same(x, of_x) and _same(-x, -of_x) and _same(x - y, of_x - of_y)
    assert _same(x**2, of_x**2) and (x + y) - y == x and hash((x + y) - y) == hash(x)
    assert (x * y).divided(y) == x and (x * y + x**0).divided(y) is None
    content, primitive = x.primitive
    assert content > 0 and primitive.scaled(content) == x
    assert all(c.q == 1 for _, c in primitive.terms) and primitive.primitive[0] == 1
    number, factors = (x * y).factored()
    product = (x**0).scaled(number)
    for factor, power in factors:
        product *= factor**power
    assert product == x * y
    assert len(factors) == len(sp.factor_list(of_x * of_y)[1])


def test_what_is_remembered_of_truth_values_is_not_taken_for_numbers():
    """In Python ``True == 1``, so results kept by their arguments alone would be mixed up."""
    pieces = Pieces(Field(4))
    question = pieces.sign(pieces.field.symbol("x"))
    positive = pieces.apply(lambda s: s > 0, question)
    number = pieces.apply(int, positive)
    assert positive == number  # for Python
    assert pieces.apply(type, positive) is bool and pieces.apply(type, number) is int


# ------------------------------------------------------------------- each primitive


def _run(function, *arrays):
    """Returns the output that the engine computes from exact constants, as float64."""
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


CANCELS = 1e-6  # in float32, a sum that cancels errs by the rounding of its terms, up to about 8


def _check(function, x, y, atol=0.0):
    """Asserts that the engine gives what JAX computes in float32, to a few last places."""
    expected = np.asarray(function(jnp.asarray(x), jnp.asarray(y)), float)
    np.testing.assert_allclose(_run(function, x, y), expected, rtol=2e-6, atol=atol)


def _quarters(rng):
    return rng.integers(-8, 9, (2, 3)).astype(np.float32) / 4


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
    "custom_vjp_call": lambda x, y: with_backward(lambda v: v * 5, lambda g, _: (g,))(x),
}


@pytest.mark.parametrize("name", ELEMENTWISE)
@pytest.mark.parametrize("seed", range(3))
def test_an_elementwise_rule_is_jax_own(name, seed):
    rng = np.random.default_rng((20, seed))
    x, y = _quarters(rng), _quarters(rng)
    y[0, 0] = x[0, 0]  # a tie
    y = np.where(y == 0, np.float32(0.5), y)
    x = np.abs(x) + np.float32(0.25) if name in POSITIVE else np.where(x == 0, np.float32(1), x)
    _check(ELEMENTWISE[name], x, y, atol=CANCELS)


@pytest.mark.parametrize(
    "name", ["add", "sub", "mul", "max", "min", "exp", "abs", "tanh", "lt", "ge", "ne", "is_finite"]
)
def test_infinities_and_nan_are_jax_own(name):
    special = np.array([np.inf, -np.inf, np.nan, 1.5, -2.0], np.float32)
    x, y = (a.ravel() for a in np.meshgrid(special, special))
    _check(ELEMENTWISE[name], x, y)


@pytest.mark.parametrize("name", SHAPES)
def test_a_rule_of_shapes_or_control_is_jax_own(name):
    rng = np.random.default_rng(7)
    x, y = _quarters(rng), _quarters(rng)
    _check(SHAPES[name], x, y, atol=CANCELS)


def test_every_rule_is_compared():
    rules = set(ExactReader(Arithmetic(Pieces(Field(8)))).elementwise)
    compared = {name.split()[0] for name in ELEMENTWISE}
    assert rules - compared == {"add_any"}  # like add, but only in transposes


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
    assert [sum(powers) for powers, _ in whole.numerator.terms] == [1]  # one new exponential
