"""The plan of a linear head bounds the memory that the compiler states."""

import functools
import inspect
import itertools

import jax
import jax.numpy as jnp
import pytest

import xent_jax
from tests.cases import x64
from tests.programs import named, sizes, temp
from xent_jax import linear_head_plan, linear_softmax_cross_entropy, linear_token_statistics

N, D, V = 2048, 96, 16384
BUDGET = 2 * 4 * V * 256  # eight chunks of at most 256 tokens
NAMES = ("inputs", "kernel", "bias")
SOME = [(), ("inputs",), ("kernel",), ("inputs", "kernel"), NAMES]
some = pytest.mark.parametrize("wrt", SOME, ids=named)
VALUES = {
    "ignore_index": -100, "num_classes": V - 100, "logit_softcap": 30.0, "label_smoothing": 0.1,
    "z_loss": 1e-4, "class_weights": jnp.ones(V), "reduction": "none", "top_k": 5,
    "temperature": 0.7, "weights": jnp.ones(N),
}  # fmt: skip


def measured_and_planned(
    head, wrt, inputs_dtype, given=(), axes="DV", tokens=N, called=None, kernel_dtype=None, **fixed
):
    """Returns the bytes of temporary memory of the compiled program, and the plan.

    The program computes the value and, for the arguments in ``wrt``, the gradients. It calls
    ``called``, if given, instead of ``head``, for which the plan is made.
    """
    options = {k: VALUES[k] for k in given if k in VALUES}
    if head is not linear_token_statistics:
        options = {"reduction": "mean"} | options
    fixed |= {"kernel_axes": axes, "max_logits_bytes": BUDGET}
    inputs, (shape, _), labels = sizes(tokens, D, V, inputs_dtype)
    kernel = shape if axes == "DV" else shape[::-1], kernel_dtype or inputs_dtype

    def call(x, w, b, y, where):
        masked = {"where": where} if "where" in given else {}
        bias = b if "bias" in wrt else None
        return (called or head)(x, w, y, bias, **options, **masked, **fixed)

    def total(*args):
        return sum(jnp.sum(v) for v in jax.tree.leaves(call(*args)) if v.dtype == jnp.float32)

    floats = inputs, kernel, ((V,), inputs_dtype)
    places = [NAMES.index(n) for n in wrt]
    taken = temp(total if wrt else call, *floats, labels, ((tokens,), "bool"), wrt=places)
    arrays = [jax.ShapeDtypeStruct(*a) for a in floats[: 3 if "bias" in wrt else 2]]
    return taken, linear_head_plan(*arrays, head=head, options=given, wrt=wrt, **fixed)


LOSS = [
    (), ("logit_softcap",), ("reduction",), ("label_smoothing", "class_weights", "z_loss"),
    ("where",), ("ignore_index", "reduction"), ("num_classes", "label_smoothing"),
    ("weights", "temperature"), ("logit_softcap", "temperature", "num_classes", "label_smoothing",
     "class_weights", "z_loss", "ignore_index"),
]  # fmt: skip
STATISTICS = [
    (), ("top_k",), ("ignore_index",), ("where", "top_k"), ("top_k", "logit_softcap"),
    ("top_k", "num_classes"),
    ("top_k", "logit_softcap", "temperature", "num_classes", "ignore_index"),
]  # fmt: skip
ROWS = [
    *((linear_softmax_cross_entropy, o, w) for o, w in itertools.product(LOSS, SOME)),
    *((linear_token_statistics, o, w) for o, w in itertools.product(STATISTICS, SOME)),
]


def measured():
    """Yields rows in float32, and those of the value and of all gradients in bfloat16 too.

    Rows with options are left out for the gradient to a single argument. The quick rows are those
    in float32 with all gradients, and those without options.
    """
    every = [(*row, "float32") for row in ROWS if not row[1] or len(row[2]) != 1]
    every += [(*row, "bfloat16") for row in ROWS if row[2] in ((), NAMES)]
    for head, given, wrt, dtype in every:
        quick = wrt == NAMES and dtype == "float32" or not given
        yield pytest.param(head, given, wrt, dtype, marks=() if quick else pytest.mark.slow)


@pytest.mark.parametrize(("head", "given", "wrt", "dtype"), list(measured()), ids=named)
def test_no_head_takes_more_than_its_plan(head, given, wrt, dtype):
    taken, plan = measured_and_planned(head, wrt, dtype, given)
    assert (plan.chunk, plan.chunks) == (256, 8)
    assert taken <= plan.temporary_bytes <= 4 * taken


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float16", marks=pytest.mark.slow)])
@some
@pytest.mark.parametrize("head", [linear_softmax_cross_entropy, linear_token_statistics])
def test_nor_in_chunks_that_do_not_divide_the_tokens_or_with_a_tied_kernel(head, wrt, dtype):
    for axes, tokens in (("VD", N), ("DV", 2039)):
        taken, plan = measured_and_planned(head, wrt, dtype, axes=axes, tokens=tokens)
        assert taken <= plan.temporary_bytes


@pytest.mark.parametrize(
    ("loss", "reduction"),
    [
        (xent_jax.softmax_cross_entropy_with_integer_labels, "mean"),
        (xent_jax.softmax_focal_loss, "none"),
    ],
)
@some
def test_nor_with_linear_head_of_losses_with_integer_labels(loss, wrt, reduction):
    def called(x, w, y, b, reduction, logit_softcap, **options):
        transform = functools.partial(xent_jax.softcap, cap=logit_softcap)
        options |= {"reduction": reduction, "logit_transform": transform}
        return xent_jax.with_linear_head(loss, **options)(x, w, y, bias=b)

    given = ("logit_softcap", *(("reduction",) if reduction == "none" else ()))
    head = linear_softmax_cross_entropy
    taken, plan = measured_and_planned(head, wrt, "float32", given, called=called)
    assert taken <= plan.temporary_bytes


@pytest.mark.parametrize("wrt", [(0, 1), (0,), (1,)])
@pytest.mark.parametrize(
    ("n", "d", "v", "budget"),
    [(2048, 64, 4096, 2**20), (1000, 32, 8192, 2**22), (64, 16, 512, None)],
)
def test_the_plan_bounds_what_the_compiler_takes(n, d, v, budget, wrt):
    given = {"max_logits_bytes": budget}
    loss = functools.partial(linear_softmax_cross_entropy, **given)
    taken = temp(loss, *sizes(n, d, v), wrt=wrt)
    shapes = [jax.ShapeDtypeStruct(*s) for s in sizes(n, d, v)[:2]]
    plan = linear_head_plan(*shapes, wrt=[NAMES[i] for i in wrt], **given)
    assert taken <= plan.temporary_bytes <= 3 * taken + 2**17 + 64 * n


@pytest.mark.parametrize("pair", [("bfloat16", "float32"), ("float32", "float32")], ids=str)
@pytest.mark.parametrize("wrt", [(), ("inputs", "kernel")], ids=named)
def test_so_it_does_with_products_in_another_dtype(wrt, pair):
    head, (dtype, of_kernel) = linear_softmax_cross_entropy, pair
    taken, plan = measured_and_planned(head, wrt, dtype, kernel_dtype=of_kernel, dtype="bfloat16")
    assert taken <= plan.temporary_bytes <= 4 * taken


def test_every_option_is_one_that_a_plan_knows():
    """A new option must be added to ``LOSS`` or ``STATISTICS``, so that it is measured."""
    fixed = {"kernel_axes", "dtype", "max_logits_bytes", "axis_name", "batch_axis_name"}
    for head in (linear_softmax_cross_entropy, linear_token_statistics):
        options = set(inspect.signature(head).parameters) - {*NAMES, "labels", *fixed}
        assert options == {o for h, given, _ in ROWS if h is head for o in given}


def test_a_plan_says_what_it_comes_from():
    x, w = jax.ShapeDtypeStruct((4, 1000, 16), jnp.bfloat16), jnp.zeros((16, 8192), jnp.bfloat16)
    plan = linear_head_plan(x, w, jnp.zeros(8192, jnp.float32), max_logits_bytes=2**24)
    assert (plan.tokens, plan.classes, plan.chunk, plan.chunks) == (4000, 8192, 250, 16)
    assert plan.logits_bytes == 2 * 4 * 250 * 8192 <= 2**24
    assert plan.accumulator_bytes == 4 * (2 * 16 * 8192 + 8192)  # the bias's sum is a result itself
    assert plan.inputs_bytes == (4 + 2) * 4000 * 16
    assert str(plan).splitlines()[0] == "4,000 tokens in 16 chunks of 250"
    assert plan.copies_bytes == 4 * (4000 * 16 + 16 * 8192)
    assert plan.numbers_bytes == 32 * (4000 + 8192)
    assert str(plan).splitlines()[6].split() == "temporary memory, at most 18.1 MiB".split()
    value = linear_head_plan(x, w, wrt=(), max_logits_bytes=2**24)
    assert (value.accumulator_bytes, value.inputs_bytes) == (0, 0)
    rest = value.copies_bytes + value.numbers_bytes
    assert value.temporary_bytes == value.logits_bytes + rest == plan.logits_bytes + rest


def test_a_plan_in_float64_counts_its_bytes():
    with x64():
        shapes = [jax.ShapeDtypeStruct(*s) for s in sizes(N, D, V, "float64")[:2]]
        plan = linear_head_plan(*shapes, max_logits_bytes=BUDGET)
    assert plan.logits_bytes == 2 * 8 * 256 * V and plan.accumulator_bytes == 8 * D * V
