"""What the theorems print as proved, with numbers put in, is the gradient that ships.

Every gradient's theorem is evaluated, none is left out: an expression that ``value`` does
not know fails its test.
"""

import zlib

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

from tests import cases
from tests.cases import x64
from tests.terms import with_digits

sp = pytest.importorskip("sympy", reason="the proofs need SymPy: pip install xent-jax[proofs]")

from xent_jax.proofs._refutation.samples import draw  # noqa: E402
from xent_jax.proofs._theorems.shipped import THEOREMS  # noqa: E402

pytestmark = pytest.mark.fast_compile

GRADIENTS = {t.name: t for t in THEOREMS if t.kind == "gradient"}
SIZES = {"n": 2, "k": 3, "m": 2, "s": 2, "d": 2, "b": 2}
DRAWS = 4  # so that masks and ignored labels are seen in several ways
TOLERANCE = 1e-10


def value(e, names):
    """A number, with those of ``names`` put in: arrays, scalars, sizes and indices."""
    if isinstance(e, sp.Symbol):
        return names[e.name]
    if isinstance(e, sp.Rational):
        return mp.mpf(e.p) / e.q
    if isinstance(e, sp.Indexed):
        return names[str(e.base)][tuple(int(value(i, names)) for i in e.indices)]
    if isinstance(e, sp.Sum):
        *inner, (i, low, high) = e.limits
        body = sp.Sum(e.function, *inner) if inner else e.function
        places = range(int(value(low, names)), int(value(high, names)) + 1)
        return mp.fsum(value(body, {**names, i.name: place}) for place in places)
    if isinstance(e, sp.Piecewise):
        return next(value(x, names) for x, condition in e.args if holds(condition, names))
    for kind, function in FUNCTIONS.items():
        if isinstance(e, kind):
            return function(*(value(a, names) for a in e.args))
    raise TypeError(f"{type(e).__name__} is not evaluated")


def holds(condition, names):
    if condition == sp.true:
        return True
    if not isinstance(condition, sp.Eq | sp.Gt):
        raise TypeError(f"{type(condition).__name__} is not evaluated")
    difference = value(condition.lhs, names) - value(condition.rhs, names)
    return difference == 0 if isinstance(condition, sp.Eq) else difference > 0


FUNCTIONS = {
    sp.Add: lambda *terms: mp.fsum(terms),
    sp.Mul: lambda *factors: mp.fprod(factors),
    # The prover makes 1/x and log x total: both are 0 at 0.
    sp.Pow: lambda x, e: mp.mpf(0) if x == 0 and e < 0 else mp.power(x, e),
    sp.log: lambda x: mp.mpf(0) if x == 0 else mp.log(x),
    sp.exp: mp.exp,
    sp.Max: max,
    sp.KroneckerDelta: lambda i, j: mp.mpf(int(i == j)),
}


def exact(x):
    """An array of mpmath's numbers, or one."""
    x = np.asarray(x, np.float64)
    numbers = [mp.mpf(float(v)) for v in x.flat]
    return np.array(numbers, object).reshape(x.shape) if x.ndim else numbers[0]


def named(arrays, specs):
    """``arrays`` by the identity's names: a label beside whether it is not the ignored one."""
    names = {}
    for name, x in arrays.items():
        ignore = specs[name].ignore
        if ignore is not None:
            names[f"{name}_kept"] = x != ignore
            x = np.where(x == ignore, 0, x)
        names[name] = x
    return {name: exact(x) for name, x in with_digits(names, specs, SIZES).items()}


def shipped(build):
    """The shape of the loss, and the pullback to the first argument named, compiled once."""
    place = list(build.args).index(build.wrt[0])

    def loss(x, arrays):
        return build.fun(*arrays[:place], x, *arrays[place + 1 :])

    @jax.jit
    def pulled(arrays, g):
        return jax.vjp(lambda x: loss(x, arrays), arrays[place])[1](g)[0]

    return lambda arrays: jax.eval_shape(loss, arrays[place], arrays), pulled


@pytest.mark.parametrize("name", GRADIENTS)
def test_the_proved_identity_is_the_gradient_that_ships(name):
    build = GRADIENTS[name].build
    verdict = GRADIENTS[name].prove()
    assert verdict.proved, verdict.reason
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    loss, pulled = shipped(build)
    for _ in range(DRAWS):
        arrays = draw(build.args, SIZES, "normal", rng)
        with x64():
            given = list(map(jnp.asarray, arrays.values()))
            g = rng.standard_normal(loss(given).shape)
            gradient = pulled(given, jnp.asarray(g))
            assert loss(given).dtype == gradient.dtype == jnp.float64
        names = {**SIZES, **named(arrays, build.args), "g": exact(g)}
        for place, got in np.ndenumerate(gradient):
            at = {f"a{axis}": i for axis, i in enumerate(place)}
            proved = float(value(verdict.identity, {**names, **at}))
            np.testing.assert_allclose(got, proved, rtol=TOLERANCE, atol=TOLERANCE)


def test_every_exported_function_has_an_identity():
    assert {t.function for t in GRADIENTS.values()} == set(cases.FUNCTIONS)
