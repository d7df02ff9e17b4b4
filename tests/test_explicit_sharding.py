"""Arguments divided over a mesh, each or not, under explicit sharding and automatic.

``jax.make_mesh`` makes explicit axes by default. There an array's type says how it is divided,
and JAX combines no arrays that are divided differently.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import xent_jax
from tests.cases import CASES, CLASSES, FUNCTIONS, Case, draw, x64
from tests.meshes import EXPLICIT, mesh_of, put, set_mesh
from tests.test_contract import close

SHAPE = N, K = 4, 6
WHOLE, ROWS, COLUMNS, BOTH = P(), P("data"), P(None, "model"), P("data", "model")
ACROSS = P("model", "data")
ELEMENTWISE = {"elements", "unit elements"}

kinds = pytest.mark.parametrize("kind", [pytest.param(AxisType.Auto, id="auto"), EXPLICIT])


@pytest.fixture(autouse=True)
def float64(unoptimized):
    with x64():
        yield


def masks(kind):
    """The masks of a function's inputs of this kind, by name."""
    return {"examples": (N,), "classes": SHAPE} if kind in CLASSES else {"elements": SHAPE}


class Problem:
    """A case with its mask, on one device and on a mesh."""

    def __init__(self, case, rng, mask=None):
        self.case, self.mask = case, mask
        self.inputs = case.inputs(rng, (N,), K)
        if mask is not None:
            self.inputs["where"] = rng.random(mask) < 0.7
        self.shape = jax.eval_shape(functools.partial(self.value, xent_jax), self.inputs).shape
        self.cotangent = rng.standard_normal(self.shape)

    def value(self, module, inputs, **more):
        where = {"where": inputs["where"]} if self.mask is not None else {}
        return self.case.call(module, inputs, **where, **more)

    def both(self, module, inputs):
        """The value, and the gradients to all floating arguments."""
        floats = self.case.floats(inputs)
        value, pull = jax.vjp(lambda floats: self.value(module, {**inputs, **floats}), floats)
        # As a cotangent that JAX makes: divided as the value is.
        g = value * 0 + self.cotangent
        return value, pull(g)[0]
