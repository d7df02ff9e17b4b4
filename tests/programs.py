"""Compiled programs, the memory they take, how many there are, and names for what is compiled."""

import contextlib

import jax
import jax.monitoring


def sizes(n, d, v, dtype="float32"):
    """Shapes and dtypes of n tokens' inputs, a kernel and labels."""
    return ((n, d), dtype), ((d, v), dtype), ((n,), "int32")


def compiled(loss, *shapes, wrt=(0, 1)):
    """The loss, or it and its gradients, for arrays of these shapes and dtypes."""
    program = jax.value_and_grad(loss, wrt) if wrt else loss
    return jax.jit(program).lower(*(jax.ShapeDtypeStruct(*s) for s in shapes)).compile()


def temp(loss, *shapes, wrt=(0, 1)):
    """Bytes of temporary memory."""
    return compiled(loss, *shapes, wrt=wrt).memory_analysis().temp_size_in_bytes


def named(x):
    if isinstance(x, str):
        return x
    return x.__name__ if callable(x) else "+".join(x) or "none"


@contextlib.contextmanager
def compilations():
    """A list that grows by one for each program that is compiled."""
    found = []

    def listen(event, _, **__):
        if event == "/jax/core/compile/backend_compile_duration":
            found.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield found
    finally:
        jax.monitoring.clear_event_listeners()
