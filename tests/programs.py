"""Compiled programs, the memory they take, how many there are, and names for what is compiled."""

import contextlib

import jax
import jax.monitoring


def sizes(n, d, v, dtype="float32"):
    """Shapes and dtypes of n tokens' inputs, a kernel and labels."""
    return ((n, d), dtype), ((d, v), dtype), ((n,), "int32")


def to_be_read(function, *arrays):
    """Returns the compiled program for these arrays, whose text and memory are those of users.

    It is not to be run: the machine code, which nobody reads, is not optimized. That takes half of
    the time.
    """
    options = {"xla_backend_optimization_level": 0}
    return jax.jit(function).lower(*arrays).compile(compiler_options=options)


def compiled(loss, *shapes, wrt=(0, 1)):
    """The loss, or it and its gradients, for arrays of these shapes and dtypes, to be read."""
    program = jax.value_and_grad(loss, wrt) if wrt else loss
    return to_be_read(program, *(jax.ShapeDtypeStruct(*s) for s in shapes))


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
