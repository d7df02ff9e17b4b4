"""Compiled losses of a head, the memory they take, and names for what is compiled."""

import jax


def compiled(loss, n, d, v, dtype="float32", wrt=(0, 1)):
    shapes = ((n, d), dtype), ((d, v), dtype), ((n,), "int32")
    program = jax.value_and_grad(loss, wrt) if wrt else loss
    return jax.jit(program).lower(*(jax.ShapeDtypeStruct(*s) for s in shapes)).compile()


def temp(program):
    return program.memory_analysis().temp_size_in_bytes


def named(x):
    if isinstance(x, str):
        return x
    return x.__name__ if callable(x) else "+".join(x) or "none"
