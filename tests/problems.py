"""A row of the table of cases with its inputs, and how its derivatives are compared."""

import functools
import zlib

import jax
import jax.numpy as jnp
import numpy as np

from tests.heads import pulled, weighed

TOLERANCE = 1e-12  # float64, against references that are themselves not careful


def close(actual, expected, tolerance=TOLERANCE, absolute=None):
    """Compares two trees of numbers; the absolute tolerance is the relative one unless given."""
    limits = {"rtol": tolerance, "atol": tolerance if absolute is None else absolute}

    def compare(a, b):
        np.testing.assert_allclose(np.asarray(a, np.float64), np.asarray(b, np.float64), **limits)

    jax.tree.map(compare, actual, expected)


def arrays(inputs, dtype=None):
    return {
        k: jnp.asarray(v, dtype if dtype and jnp.issubdtype(v.dtype, jnp.floating) else v.dtype)
        for k, v in inputs.items()
    }


class Problem:
    """One row with its inputs: both sides as functions of the floating arguments."""

    def __init__(self, case, rng, dtype=jnp.float64, batch=(4, 2), k=6):
        self.case, self.rng = case, rng
        self.inputs = arrays(case.inputs(rng, batch, k), dtype)
        self.floats = case.floats(self.inputs)
        self.direction = {
            k: np.asarray(rng.uniform(0.5, 1, v.shape)) for k, v in self.floats.items()
        }

    def ours(self, module, floats):
        return self.case.call(module, {**self.inputs, **floats})

    def expected(self, floats):
        return self.case.expected({**self.inputs, **floats})

    @functools.cached_property
    def first(self):
        """The reference's losses and gradients, as ``pulled`` has them, in float64."""
        return _reference(self.case)(arrays(self.inputs, float))

    @functools.cached_property
    def second(self):
        """The derivatives of ``first`` along the direction: tangents and a Hessian's product."""
        run = functools.partial(pulled, self.expected)
        return jax.jit(functools.partial(slope, run))(self.floats, self.direction)

    def derivatives(self, losses, *kinds):
        """Each kind of derivative of a number that weighs each loss differently, jitted.

        A kind maps a function, a point and a direction to an array or a tree of arrays.
        """

        def run(x, direction):
            return [kind(lambda x: weighed(losses(x)), x, direction) for kind in kinds]

        return jax.jit(run)(self.floats, self.direction)

    def check_gradient(self, losses):
        """The losses and their gradient, jitted, and the losses alone are the reference's."""
        found, alone = jax.jit(lambda x: (pulled(losses, x), losses(x)))(self.floats)
        close((found, alone), (self.first, self.first[0]))


@functools.cache
def _reference(case):
    """``pulled`` of a row's reference, of its inputs, compiled once for each shape."""
    return jax.jit(lambda x: pulled(lambda f: case.expected({**x, **f}), case.floats(x)))


@functools.cache
def solved(case, **shape):
    """A row's problem of float64, whose reference several tests compare with."""
    return Problem(case, np.random.default_rng(zlib.crc32(case.id.encode())), **shape)


def slope(f, x, direction):
    """The derivative of ``f`` along the direction, in forward mode."""
    return jax.jvp(f, (x,), (direction,))[1]


def hessian_times(f, x, direction):
    """Returns the Hessian times the direction, by forward over reverse mode."""
    return slope(jax.grad(f), x, direction)


def gradient_of_slope(f, x, direction):
    """Returns the Hessian times the direction, by reverse over reverse mode."""

    def along(x):
        return sum(map(jnp.vdot, jax.tree.leaves(jax.grad(f)(x)), jax.tree.leaves(direction)))

    return jax.grad(along)(x)
