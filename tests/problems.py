"""A row of the table of cases with its inputs, and how its derivatives are compared."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

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

    def __init__(self, case, rng, dtype=jnp.float64, **shape):
        self.case, self.rng = case, rng
        self.inputs = arrays(case.inputs(rng, **shape), dtype)
        self.floats = case.floats(self.inputs)
        out = jax.eval_shape(case.expected, self.inputs)
        self.cotangent = jnp.asarray(rng.standard_normal(out.shape))

    def ours(self, module, floats):
        return self.case.call(module, {**self.inputs, **floats})

    def expected(self, floats):
        return self.case.expected({**self.inputs, **floats})

    def check_gradient(self, module):
        """The losses and their gradient for the cotangent, jitted, and the losses alone."""

        def both(losses, floats):
            values, pull = jax.vjp(losses, floats)
            return values, pull(self.cotangent.astype(values.dtype))[0]

        ours = functools.partial(self.ours, module)
        found, alone = jax.jit(lambda floats: (both(ours, floats), ours(floats)))(self.floats)
        expected = jax.jit(functools.partial(both, self.expected))(self.floats)
        close((found, alone), (expected, expected[0]))

    def check(self, derivatives, module, tolerance=TOLERANCE):
        """Each derivative of <g, loss>, jitted, is the first one of the reference.

        A derivative maps a function, a point and a direction to an array or a tree of arrays.
        """
        direction = jax.tree.map(
            lambda x: jnp.asarray(self.rng.uniform(0.5, 1, x.shape)), self.floats
        )

        def run(losses, derivatives):
            def loss(x):
                return jnp.vdot(self.cotangent, losses(x))

            return jax.jit(
                lambda x: [derivative(loss, x, direction) for derivative in derivatives]
            )(self.floats)

        (expected,) = run(self.expected, derivatives[:1])
        for found in run(functools.partial(self.ours, module), derivatives):
            close(found, expected, tolerance)


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
