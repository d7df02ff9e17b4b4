"""Runs jaxprs of concrete shapes on exact numbers, and remarks on how it reads them."""

import jax.numpy as jnp
import numpy as np
from xent_jax.proofs._jax_internals import is_origin
from xent_jax.proofs._refutation.entries import Refused, filled
from xent_jax.proofs._refutation.reading import Reader

from .extended import Arithmetic


class ExactReader(Reader):
    """The jaxpr reader of the search for counterexamples, applied to leaves and diagrams."""

    def __init__(self, arithmetic: Arithmetic):
        super().__init__(arithmetic)
        self.remarks = arithmetic.remarks

    def fewer_bits(self, equation, x: np.ndarray) -> np.ndarray:
        info = jnp.finfo(equation.invars[0].aval.dtype)
        exponent, bits = equation.params["exponent_bits"], equation.params["mantissa_bits"]
        if exponent < info.nexp:
            raise Refused("reduce_precision to an exponent of fewer bits")
        if bits >= info.nmant:
            return x
        return filled(x.shape, [self.arithmetic.fewer_bits(v, bits) for v in x.ravel()])

    def _equation(self, equation, inputs: list[np.ndarray]) -> list[np.ndarray]:
        if is_origin(equation):
            self.remarks.add("the number that the exponentials are relative to is any number")
        return super()._equation(equation, inputs)

    def _same(self, ones: list[np.ndarray], others: list[np.ndarray]) -> None:
        self.remarks.add("every platform's branch of lax.platform_dependent gives the same")
        super()._same(ones, others)
