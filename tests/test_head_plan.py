"""The plan of a linear head, against the memory that the compiler states."""

import functools
import inspect
import itertools

import jax
import jax.numpy as jnp
import pytest

import xent_jax
from tests.cases import x64
from tests.programs import compiled, named, temp
from xent_jax import linear_softmax_cross_entropy, linear_token_statistics

N, D, V = 2048, 96, 16384
BUDGET = 2 * 4 * V * 256  # eight chunks, or nine where they do not divide the tokens
NAMES = ("inputs", "kernel", "bias")
SOME = [(), ("inputs",), ("kernel",), ("inputs", "kernel"), NAMES]
VALUES = {
    "ignore_index": -100, "num_classes": V - 100, "logit_softcap": 30.0, "label_smoothing": 0.1,
    "z_loss": 1e-4, "class_weights": jnp.ones(V), "reduction": "none", "top_k": 5,
    "temperature": 0.7, "weights": jnp.ones(N),
}  # fmt: skip


def taken(head, wrt, dtype, given, axes="DV", tokens=N, budget=BUDGET):
    """Bytes of temporary memory of the compiled program, value or value and gradients."""
    options = {k: VALUES[k] for k in given if k in VALUES}
    if head is not linear_token_statistics:
        options = {"reduction": "mean"} | options
    kernel = (D, V) if axes == "DV" else (V, D)

    def call(x, w, b, y, where):
        masked = {"where": where} if "where" in given else {}
        fixed = {"kernel_axes": axes, "max_logits_bytes": budget}
        return head(x, w, y, b if "bias" in wrt else None, **options, **masked, **fixed)

    def total(*args):
        return sum(jnp.sum(v) for v in jax.tree.leaves(call(*args)) if v.dtype == jnp.float32)

    program = jax.value_and_grad(total, [NAMES.index(n) for n in wrt]) if wrt else call
    shapes = ((tokens, D), dtype), (kernel, dtype), ((V,), dtype)
    shapes += ((tokens,), "int32"), ((tokens,), "bool")
    lowered = jax.jit(program).lower(*(jax.ShapeDtypeStruct(*s) for s in shapes))
    return lowered.compile().memory_analysis().temp_size_in_bytes


def planned(head, wrt, dtype, given, axes="DV", tokens=N, budget=BUDGET):
    shapes = [(tokens, D), (D, V) if axes == "DV" else (V, D), (V,)][: 3 if "bias" in wrt else 2]
    return xent_jax.linear_head_plan(
        *(jax.ShapeDtypeStruct(s, dtype) for s in shapes),
        head=head, options=given, wrt=wrt, kernel_axes=axes, max_logits_bytes=budget,
    )  # fmt: skip


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
    """Rows and a dtype: without options for each gradient alone, with them for none, two and all.

    Quick are those of all gradients in float32, and in bfloat16 and for each gradient the plain.
    """
    every = [(*row, "float32") for row in ROWS if not row[1] or len(row[2]) != 1]
    every += [(*row, "bfloat16") for row in ROWS if row[2] in ((), NAMES)]
    for head, given, wrt, dtype in every:
        quick = wrt == NAMES and dtype == "float32" or not given
        yield pytest.param(head, given, wrt, dtype, marks=() if quick else pytest.mark.slow)


@pytest.mark.parametrize(("head", "given", "wrt", "dtype"), measured(), ids=named)
def test_no_head_takes_more_than_its_plan(head, given, wrt, dtype):
    plan = planned(head, wrt, dtype, given)
    assert (plan.chunk, plan.chunks) == (256, 8)
    got = taken(head, wrt, dtype, given)
    assert got <= plan.temporary_bytes <= 4 * got


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float16", marks=pytest.mark.slow)])
@pytest.mark.parametrize("wrt", SOME, ids=named)
@pytest.mark.parametrize("head", [linear_softmax_cross_entropy, linear_token_statistics])
def test_nor_in_chunks_that_do_not_divide_the_tokens_or_with_a_tied_kernel(head, wrt, dtype):
    for axes, tokens in (("VD", N), ("DV", 2039)):
        plan = planned(head, wrt, dtype, (), axes, tokens)
        assert taken(head, wrt, dtype, (), axes, tokens) <= plan.temporary_bytes


@pytest.mark.parametrize(
    ("loss", "reduction"),
    [
        (xent_jax.softmax_cross_entropy_with_integer_labels, "mean"),
        (xent_jax.softmax_focal_loss, "none"),
    ],
)
@pytest.mark.parametrize("wrt", SOME, ids=named)
def test_nor_with_linear_head_of_losses_with_integer_labels(loss, wrt, reduction):
    def head(x, w, y, b, reduction, logit_softcap, **options):
        transform = functools.partial(xent_jax.softcap, cap=logit_softcap)
        options |= {"reduction": reduction, "logit_transform": transform}
        return xent_jax.with_linear_head(loss, **options)(x, w, y, bias=b)

    given = ("logit_softcap", *(("reduction",) if reduction == "none" else ()))
    plan = planned(linear_softmax_cross_entropy, wrt, "float32", given)
    assert taken(head, wrt, "float32", given) <= plan.temporary_bytes


def test_every_option_is_one_that_a_plan_knows():
    """An option that is new must be measured above."""
    fixed = {"kernel_axes", "dtype", "max_logits_bytes", "axis_name", "batch_axis_name"}
    for head in (linear_softmax_cross_entropy, linear_token_statistics):
        options = set(inspect.signature(head).parameters) - {*NAMES, "labels", *fixed}
        assert options == {o for h, given, _ in ROWS if h is head for o in given}


@pytest.mark.parametrize("wrt", [(0, 1), (0,), (1,)])
@pytest.mark.parametrize(
    ("n", "d", "v", "budget"),
    [(2048, 64, 4096, 2**20), (1000, 32, 8192, 2**22), (64, 16, 512, None)],
)
def test_the_plan_bounds_what_the_compiler_takes(n, d, v, budget, wrt):
    def loss(x, w, y):
        return linear_softmax_cross_entropy(x, w, y, max_logits_bytes=budget)

    taken = temp(compiled(loss, n, d, v, wrt=wrt))
    shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((n, d), (d, v))]
    names = [("inputs", "kernel")[i] for i in wrt]
    plan = xent_jax.linear_head_plan(*shapes, wrt=names, max_logits_bytes=budget)
    assert taken <= plan.temporary_bytes <= 3 * taken + 2**17 + 64 * n


def test_a_plan_says_what_it_comes_from():
    x, w = jax.ShapeDtypeStruct((4, 1000, 16), jnp.bfloat16), jnp.zeros((16, 8192), jnp.bfloat16)
    plan = xent_jax.linear_head_plan(x, w, jnp.zeros(8192, jnp.float32), max_logits_bytes=2**24)
    assert (plan.tokens, plan.classes, plan.chunk, plan.chunks) == (4000, 8192, 250, 16)
    assert plan.logits_bytes == 2 * 4 * 250 * 8192 <= 2**24
    assert plan.accumulator_bytes == 4 * (2 * 16 * 8192 + 8192)  # the bias's sum is its gradient
    assert plan.inputs_bytes == (4 + 2) * 4000 * 16
    assert str(plan).splitlines()[0] == "4,000 tokens in 16 chunks of 250"
    assert plan.copies_bytes == 4 * (4000 * 16 + 16 * 8192)
    assert plan.numbers_bytes == 32 * (4000 + 8192)
    assert str(plan).splitlines()[6].split() == "temporary memory, at most 18.1 MiB".split()
    value = xent_jax.linear_head_plan(x, w, wrt=(), max_logits_bytes=2**24)
    assert (value.accumulator_bytes, value.inputs_bytes) == (0, 0)
    rest = value.copies_bytes + value.numbers_bytes
    assert value.temporary_bytes == value.logits_bytes + rest == plan.logits_bytes + rest


def test_a_plan_in_float64_counts_its_bytes():
    with x64():
        shapes = [jax.ShapeDtypeStruct(s, "float64") for s in ((N, D), (D, V))]
        plan = xent_jax.linear_head_plan(*shapes, max_logits_bytes=BUDGET)
    assert plan.logits_bytes == 2 * 8 * 256 * V and plan.accumulator_bytes == 8 * D * V


@pytest.mark.parametrize("head", [xent_jax.softmax_focal_loss, jnp.mean, None])
def test_a_plan_of_another_function_is_refused(head):
    said = "linear_head_plan: head must be linear_softmax_cross_entropy or linear_token_statistics"
    with pytest.raises(ValueError, match=said):
        xent_jax.linear_head_plan(jnp.ones((2, 3)), jnp.ones((3, 4)), head=head)


@pytest.mark.parametrize("options", ["where", ["cap"], ["labels"]])
def test_a_plan_for_what_is_no_option_is_refused(options):
    with pytest.raises(ValueError, match=r"linear_head_plan: options must hold names of .*got"):
        xent_jax.linear_head_plan(jnp.ones((2, 3)), jnp.ones((3, 4)), options=options)


@pytest.mark.parametrize("wrt", ["inputs", ["weights"]])
def test_a_plan_for_what_is_no_argument_is_refused(wrt):
    with pytest.raises(ValueError, match=r"linear_head_plan: wrt must hold names of .*got"):
        xent_jax.linear_head_plan(jnp.ones((2, 3)), jnp.ones((3, 4)), wrt=wrt)


def test_a_plan_checks_shapes_as_the_head_does():
    with pytest.raises(ValueError, match="linear_head_plan: inputs must have .*Give kernel.T"):
        xent_jax.linear_head_plan(jnp.ones((2, 3)), jnp.ones((4, 3)))
