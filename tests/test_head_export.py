"""Heads can be exported for every platform, and for any number of tokens and classes."""

import functools

import jax
import jax.export  # jax before 0.8 does not import it
import pytest

import xent_jax
from tests.chunks import chunks_of
from tests.heads import CLASSES, WIDTH, drawn, pulled, same
from tests.problems import close

pytestmark = pytest.mark.fast_compile


def head(reduction):
    options = {"ignore_index": 2, "z_loss": 0.1, "logit_softcap": 3.0, "reduction": reduction}
    return functools.partial(xent_jax.linear_softmax_cross_entropy, **options)


FUNCTIONS = {
    "mean": functools.partial(pulled, head("mean")),
    "none": functools.partial(pulled, head("none")),
    "focal": functools.partial(pulled, xent_jax.with_linear_head(xent_jax.softmax_focal_loss)),
    "stats": functools.partial(xent_jax.linear_token_statistics, top_k=2),
}
SIZES = {"n": [(1,), (1100,)], "b, 3": [(1, 3), (400, 3)], "b, t": [(2, 2), (30, 40)]}


def exported(function, tokens, classes):
    shapes = {(*tokens, WIDTH): "float32", (WIDTH, classes): "float32", tokens: "int32"}
    specs = [jax.ShapeDtypeStruct(*s) for s in shapes.items()]
    return jax.export.export(jax.jit(function))(*specs).call


def compare(call, function, tokens, classes=CLASSES):
    x, w, _, y = drawn(tokens, classes=classes)
    close(call(x, w, y), jax.jit(function)(x, w, y), 1e-5)  # float32


@pytest.mark.parametrize(
    ("name", "tokens"),
    [("none", "n"), ("none", "b, 3"), *((name, "b, t") for name in FUNCTIONS)],
)
def test_a_head_for_any_number_of_tokens(name, tokens):
    call = exported(FUNCTIONS[name], jax.export.symbolic_shape(tokens), CLASSES)
    for batch in SIZES[tokens]:
        compare(call, FUNCTIONS[name], batch)


@pytest.mark.parametrize("name", ["mean", "focal"])
def test_a_head_for_any_number_of_tokens_and_classes(name):
    tokens, classes = jax.export.symbolic_shape("n, k")
    call = exported(FUNCTIONS[name], (tokens,), classes)
    for batch, k in ((5, 7), (600, 11)):
        compare(call, FUNCTIONS[name], (batch,), k)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("name", "classes", "pieces"), [("mean", 12, 3), ("none", 11, 1), ("focal", 11, 1)]
)
def test_a_head_for_every_platform(name, classes, pieces):
    """The kernel's gradient is summed in pieces of the classes on the CPU alone."""
    x, w, _, y = drawn((9,), classes=classes)
    with chunks_of(4, pieces):
        run = jax.jit(FUNCTIONS[name])
        exported = jax.export.export(run, platforms=["cpu", "cuda", "rocm", "tpu"])(x, w, y)
        same(exported.call(x, w, y), run(x, w, y))
