"""The identities that the theorems print as proved have the values of the gradients that ship.

Every theorem about a gradient is tested: if SymPy can make no function of its identity, its test
fails.
"""

import functools
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
DRAWS = 4  # so that masks and ignored labels are drawn in several ways
TOLERANCE = 1e-10


MEANINGS = {
    # The prover makes 1/x and log x total: both are 0 at 0.
    "power": lambda x, e: mp.mpf(0) if x == 0 and e < 0 else mp.power(x, e),
    "log": lambda x: mp.mpf(0) if x == 0 else mp.log(x),
    "KroneckerDelta": lambda i, j: int(i == j),
}


def function_of(identity, *names):
    """Returns the identity as a function of arrays, scalars, sizes and indices of these names."""
    powers = identity.replace(sp.Pow, sp.Function("power"))
    bases = {b: sp.IndexedBase(plain(str(b))) for b in identity.atoms(sp.IndexedBase)}
    return sp.lambdify(list(map(plain, names)), powers.xreplace(bases), [MEANINGS, "mpmath"])


def plain(name):
    """Replaces dots, as in y.0, the shard of a label, because Python's names have none."""
    return name.replace(".", "_")


def exact(x):
    """Returns an array or a number with floats as mpmath's numbers, and others as integers."""
    x = np.asarray(x)
    numbers = [mp.mpf(v.item()) if x.dtype.kind == "f" else int(v) for v in x.flat]
    return np.array(numbers, object).reshape(x.shape) if x.ndim else numbers[0]


def named(arrays, specs):
    """Returns ``arrays`` by the identity's names: ``y_kept`` says which labels are not ignored."""
    names = {}
    for name, x in arrays.items():
        ignore = specs[name].ignore
        if ignore is not None:
            names[f"{name}_kept"] = x != ignore
            x = np.where(x == ignore, 0, x)
        names[name] = x
    return {name: exact(x) for name, x in with_digits(names, specs, SIZES).items()}


def shipped(build):
    """Returns functions for the loss's shape, and its pullback to the first argument of ``wrt``."""
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
    identity = functools.cache(functools.partial(function_of, verdict.identity))
    for _ in range(DRAWS):
        arrays = draw(build.args, SIZES, "normal", rng)
        with x64():
            given = list(map(jnp.asarray, arrays.values()))
            g = rng.standard_normal(loss(given).shape)
            gradient = pulled(given, jnp.asarray(g))
            assert loss(given).dtype == gradient.dtype == jnp.float64
        names = {**SIZES, **named(arrays, build.args), "g": exact(g)}
        places = [f"a{axis}" for axis in range(gradient.ndim)]
        proved = identity(*names, *places)
        values = [float(proved(*names.values(), *at)) for at in np.ndindex(gradient.shape)]
        np.testing.assert_allclose(np.ravel(gradient), values, rtol=TOLERANCE, atol=TOLERANCE)


def test_every_exported_function_has_an_identity():
    assert {t.function for t in GRADIENTS.values()} == set(cases.FUNCTIONS)
