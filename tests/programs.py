"""Compiles programs, measures their memory, counts them, and names what is compiled."""

import contextlib

import jax
import jax.monitoring


def sizes(n, d, v, dtype="float32"):
    """Returns the shapes and dtypes of the inputs of n tokens, a kernel and labels."""
    return ((n, d), dtype), ((d, v), dtype), ((n,), "int32")


def to_be_read(function, *arrays):
    """Returns the compiled program for these arrays, with the text and memory that users get.

    It must not be run, because its machine code, which nobody reads, is not optimized. Compiling
    therefore takes half of the time.
    """
    options = {"xla_backend_optimization_level": 0}
    return jax.jit(function).lower(*arrays).compile(compiler_options=options)


def compiled(loss, *shapes, wrt=(0, 1)):
    """Compiles the loss, with its gradients by ``wrt`` if given, for arrays of these shapes."""
    program = jax.value_and_grad(loss, wrt) if wrt else loss
    return to_be_read(program, *(jax.ShapeDtypeStruct(*s) for s in shapes))


def temp(loss, *shapes, wrt=(0, 1)):
    """Returns the bytes of temporary memory that the compiled loss and gradients take."""
    return compiled(loss, *shapes, wrt=wrt).memory_analysis().temp_size_in_bytes


def named(x):
    if isinstance(x, str):
        return x
    return x.__name__ if callable(x) else "+".join(x) or "none"


@contextlib.contextmanager
def compilations():
    """Yields a list that grows by one entry for each program that is compiled."""
    found = []

    def listen(event, _, **__):
        if event == "/jax/core/compile/backend_compile_duration":
            found.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield found
    finally:
        jax.monitoring.clear_event_listeners()
