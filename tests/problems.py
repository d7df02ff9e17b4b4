"""Draws inputs for a row of the table of cases, and computes and compares its derivatives."""

import functools
import zlib

import jax
import jax.numpy as jnp
import numpy as np

from tests.heads import pulled, weighed

TOLERANCE = 1e-12  # float64, against references that take no care of rounding


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
    """A row with its inputs; the loss and its reference are functions of the floating arguments."""

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
        """The reference's losses and gradients, as ``pulled`` returns them, in float64."""
        return _reference(self.case)(arrays(self.inputs, float))

    @functools.cached_property
    def second(self):
        """The derivatives of ``first`` along the direction: tangents and Hessian products."""
        run = functools.partial(pulled, self.expected)
        return jax.jit(functools.partial(slope, run))(self.floats, self.direction)

    def derivatives(self, losses, *kinds):
        """Returns each kind of derivative of a sum that weighs each loss differently, jitted.

        A kind maps a function, a point and a direction to an array or a tree of arrays.
        """

        def run(x, direction):
            return [kind(lambda x: weighed(losses(x)), x, direction) for kind in kinds]

        return jax.jit(run)(self.floats, self.direction)

    def check_gradient(self, losses):
        """Asserts that the jitted losses, alone and with their gradient, are the reference's."""
        found, alone = jax.jit(lambda x: (pulled(losses, x), losses(x)))(self.floats)
        close((found, alone), (self.first, self.first[0]))


@functools.cache
def _reference(case):
    """Returns a jitted function of inputs, ``pulled`` of a row's reference, which is cached."""
    return jax.jit(lambda x: pulled(lambda f: case.expected({**x, **f}), case.floats(x)))


@functools.cache
def solved(case, **shape):
    """Returns a row's problem in float64, cached because several tests use its reference."""
    return Problem(case, np.random.default_rng(zlib.crc32(case.id.encode())), **shape)


def slope(f, x, direction):
    """Returns the derivative of ``f`` along the direction, in forward mode."""
    return jax.jvp(f, (x,), (direction,))[1]


def hessian_times(f, x, direction):
    """Returns the Hessian times the direction, by forward over reverse mode."""
    return slope(jax.grad(f), x, direction)


def gradient_of_slope(f, x, direction):
    """Returns the Hessian times the direction, by reverse over reverse mode."""

    def along(x):
        return sum(map(jnp.vdot, jax.tree.leaves(jax.grad(f)(x)), jax.tree.leaves(direction)))

    return jax.grad(along)(x)
