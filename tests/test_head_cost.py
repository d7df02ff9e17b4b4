"""The cost of the linear head: chunks, temporary memory, matrix products; and what it rejects."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cases import x64
from tests.programs import compiled, temp
from xent_jax import linear_softmax_cross_entropy, with_linear_head
from xent_jax._chunks import LIVE, chunks_for


def chunk_size(tokens, classes, budget):
    return chunks_for("f", tokens, 1, classes, budget).size


def pieces_of(width, classes):
    return chunks_for("f", 1, width, classes, None).pieces


# ---------------------------------------------------------------- the chunk


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.integers(0, 5000), st.integers(1, 300), st.integers(1, 400))
def test_a_chunk_keeps_to_its_budget_and_the_chunks_are_as_few_as_can_be(tokens, classes, rows):
    budget = LIVE * 4 * classes * rows
    size = chunk_size(tokens, classes, budget)
    assert 1 <= size <= rows
    fewest = -(-tokens // rows)
    count = -(-tokens // size)
    assert tokens == 0 or count == fewest or (tokens % size == 0 and count < 2 * fewest)


def test_the_default_is_64_mib_of_logits_and_at_least_512_tokens():
    assert chunk_size(2**20, 2**10, None) == 2**14
    assert chunk_size(2**20, 2**15, None) == 512
    assert chunk_size(2**20, 2**18, None) == 512
    assert chunk_size(300, 2**18, None) == 300
    assert chunk_size(0, 2**18, None) == 1


@pytest.mark.parametrize(
    ("width", "classes", "size"),
    [(4096, 2**17, 2048), (2560, 2**17, 1280), (16384, 2**17, 2048), (512, 2**17, 512)]
    + [(4096, 2**15, 512), (4096, 2**14, 1024)],  # where 128 MiB hold 512 tokens
)
def test_a_large_vocabulary_has_chunks_no_larger_than_the_sum_of_the_kernels_gradient(
    width, classes, size
):
    assert chunks_for("f", 5 * 2**20, width, classes, None).size == size
    assert LIVE * 4 * classes * size <= max(4 * width * classes, LIVE * 4 * classes * 512, 2**27)


def test_with_a_mask_there_are_16_chunks_or_chunks_of_512_tokens():
    sizes = {n: chunks_for("f", n, 64, 512, None, True).size for n in (2**10, 2**14, 2**20)}
    assert sizes == {2**10: 512, 2**14: 1024, 2**20: 2**15}
    assert chunks_for("f", 2**14, 64, 512, LIVE * 4 * 512 * 100, True).size <= 100


def test_a_size_that_divides_the_tokens_is_preferred():
    assert chunk_size(1500, 2**18, None) == 500
    assert chunk_size(2 * 521, 2**18, None) == 348  # 521 is prime
    assert chunk_size(6 * 173, 2**18, None) == 346


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.integers(0, 10_000), st.integers(1, 300_000))
def test_pieces_divide_the_classes_and_are_neither_small_nor_more_than_needed(width, classes):
    pieces = pieces_of(width, classes)
    assert classes % pieces == 0
    if pieces > 1:
        assert classes // pieces >= 2048 // 2
        assert pieces < 2 * -(-4 * width * classes // (4 * 2**20))


def test_a_small_kernel_is_one_piece_and_a_large_one_lies_in_the_cache():
    assert pieces_of(64, 8192) == pieces_of(4096, 2048) == pieces_of(0, 5) == 1
    assert pieces_of(512, 32768) == 16  # of 4 MiB
    assert pieces_of(768, 50257) == 1 or 50257 % pieces_of(768, 50257) == 0


def test_a_budget_below_one_token_is_refused():
    wanted = (
        r"linear_softmax_cross_entropy: max_logits_bytes must hold .* 800 bytes for 100 cl.* 799"
    )
    with pytest.raises(ValueError, match=wanted):
        run(np.zeros((3, 2)), np.zeros((2, 100)), np.zeros(3, int), max_logits_bytes=799)


# ---------------------------------------------------------------- memory and products


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize(
    ("n", "d", "v"), [(2048, 64, 4096), (4096, 64, 4096), (1021, 32, 5003), (512, 128, 20000)]
)
def test_temporary_memory_is_the_budget_and_the_gradients(n, d, v, reduction):
    budget = 4 * 2**20

    def loss(x, w, y):
        run = linear_softmax_cross_entropy
        return jnp.mean(run(x, w, y, reduction=reduction, max_logits_bytes=budget))

    accumulators, inputs = 2 * 4 * d * v, 2 * 4 * n * d  # the sum and what is added to it
    assert temp(compiled(loss, n, d, v)) <= budget + accumulators + inputs + 2**20
    assert temp(compiled(loss, n, d, v, wrt=())) <= budget + 2**20


def test_a_tied_embedding_is_not_copied():
    def tied(x, embedding, y):
        return linear_softmax_cross_entropy(x, embedding, y, kernel_axes="VD")

    n, d, v = 1024, 128, 32768
    shapes = ((n, d), "float32"), ((v, d), "float32"), ((n,), "int32")
    program = jax.jit(jax.value_and_grad(tied, (0, 1)))
    program = program.lower(*(jax.ShapeDtypeStruct(*s) for s in shapes)).compile()
    assert temp(program) <= temp(compiled(linear_softmax_cross_entropy, n, d, v)) + 2**16


def test_temporary_memory_does_not_grow_with_the_tokens():
    few, many = (temp(compiled(linear_softmax_cross_entropy, n, 32, 8192)) for n in (4096, 16384))
    assert many <= few + 4 * 32 * (16384 - 4096) + 2**16  # but for the inputs' gradient


def products(loss, wrt):
    text = compiled(loss, 1024, 32, 512, wrt=wrt).as_text()
    return len(re.findall(r" dot\(", text))


CHUNKED = {"max_logits_bytes": LIVE * 4 * 512 * 128}


@pytest.mark.parametrize(
    ("reduction", "wrt", "count"),
    [
        ("mean", (), 1), ("mean", (0,), 2), ("mean", (1,), 2), ("mean", (0, 1), 3),
        ("none", (), 1), ("none", (0,), 3), ("none", (1,), 3), ("none", (0, 1), 4),
    ],
)  # fmt: skip
def test_no_product_is_made_for_a_gradient_that_nobody_asks_for(reduction, wrt, count):
    def loss(x, w, y):
        return jnp.mean(linear_softmax_cross_entropy(x, w, y, reduction=reduction, **CHUNKED))

    assert products(loss, wrt) == count


def test_nor_without_jit():
    x, w, y = jnp.ones((6, 4)), jnp.ones((4, 5)), jnp.zeros(6, jnp.int32)
    for wrt, count in (((0,), 2), ((1,), 2), ((0, 1), 3)):
        jaxpr = jax.make_jaxpr(jax.grad(linear_softmax_cross_entropy, wrt))(x, w, y)
        assert len(re.findall(r"dot_general\[", str(jaxpr))) == count


# ---------------------------------------------------------------- dtypes


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_half_precision(dtype, reduction):
    """Float32 losses; gradients of the operands' dtype, no worse than those of held logits."""
    rng = np.random.default_rng(0)
    n, d, v = 4096, 32, 400
    x, w = (jnp.asarray(rng.normal(size=s), dtype) for s in ((n, d), (d, v)))
    y = jnp.asarray(rng.integers(0, v, n))
    budget = LIVE * 4 * v * 512

    def head(x, w):
        return jnp.mean(
            linear_softmax_cross_entropy(x, w, y, reduction=reduction, max_logits_bytes=budget)
        )

    def held(x, w):
        z = (x @ w).astype(jnp.float32)
        return jnp.mean(jax.nn.logsumexp(z, -1) - jnp.take_along_axis(z, y[:, None], -1)[:, 0])

    with x64():
        exact = jax.grad(held, (0, 1))(np.asarray(x, np.float64), np.asarray(w, np.float64))
    value, got = jax.value_and_grad(head, (0, 1))(x, w)
    assert value.dtype == jnp.float32
    assert [g.dtype for g in got] == [dtype, dtype]

    def error(gradients):
        pairs = zip(gradients, exact, strict=True)
        return [np.linalg.norm(np.asarray(g, np.float64) - e) / np.linalg.norm(e) for g, e in pairs]

    ours, theirs = error(got), error(jax.grad(held, (0, 1))(x, w))
    assert all(a <= 1.05 * b for a, b in zip(ours, theirs, strict=True)), (ours, theirs)
    assert ours[1] < {"bfloat16": 3e-3, "float16": 1e-3}[dtype]


def test_inputs_and_kernel_of_two_dtypes_are_promoted():
    x, w = jnp.ones((6, 4), jnp.bfloat16), jnp.full((4, 5), 0.1, jnp.float32)
    gradients = jax.grad(linear_softmax_cross_entropy, (0, 1))(x, w, jnp.zeros(6, jnp.int32))
    assert [g.dtype for g in gradients] == [jnp.bfloat16, jnp.float32]


# ---------------------------------------------------------------- errors

run = linear_softmax_cross_entropy
X, W, Y = np.zeros((6, 4), np.float32), np.zeros((4, 9), np.float32), np.zeros(6, np.int32)


@pytest.mark.parametrize(
    ("args", "options", "error", "message"),
    [
        (
            (X, W.T, Y),
            {},
            ValueError,
            r"kernel \[D, classes\], got .*9,4.* Give kernel.T, or kernel_axes='VD'",
        ),
        (
            (X, W, Y),
            {"kernel_axes": "VD"},
            ValueError,
            r"kernel \[classes, D\].* or kernel_axes='DV'",
        ),
        (
            (X, W, Y),
            {"kernel_axes": "VK"},
            ValueError,
            "kernel_axes must be one of 'DV', 'VD', got 'VK'",
        ),
        ((X, W[:3], Y), {}, ValueError, r"got float32\[6,4\] and float32\[3,9\]\.$"),
        ((X, W[0], Y), {}, ValueError, r"got float32\[6,4\] and float32\[9\]"),
        ((X, W[:, :0], Y), {}, ValueError, "kernel must have at least one class"),
        ((Y, W, Y), {}, TypeError, "inputs must be a floating-point array, got int32"),
        ((X, W, Y[:5]), {}, ValueError, r"labels must have one entry for each token, \[6\], got"),
        ((X, W, Y.astype(float)), {}, TypeError, "labels must be an integer array"),
        ((X, W, Y), {"bias": X[0]}, ValueError, r"bias must have shape \[9\]"),
        ((X, W, Y), {"where": Y}, TypeError, "where must be a boolean array"),
        (
            (X, W, Y),
            {"where": Y[:5] > 0},
            ValueError,
            r"where must broadcast to the shape of the tokens, \[6\]",
        ),
        ((X, W, Y), {"reduction": "avg"}, ValueError, "reduction must be one of"),
        ((X, W, Y), {"class_weights": X[0]}, ValueError, r"class_weights must have shape \[9\]"),
        ((X, W, Y), {"logit_softcap": 0}, ValueError, "logit_softcap must be above 0"),
        ((X, W, Y), {"label_smoothing": 2.0}, ValueError, "label_smoothing must be from 0 to 1"),
        ((X, W, Y), {"ignore_index": 0.5}, TypeError, "ignore_index must be an int"),
    ],
)
def test_what_cannot_be_is_refused_by_name(args, options, error, message):
    with pytest.raises(error, match=message) as raised:
        run(*args, **options)
    assert str(raised.value).startswith("linear_softmax_cross_entropy: ")


def test_a_loss_that_is_not_one_number_for_each_token_is_refused():
    with pytest.raises(ValueError, match=r"with_linear_head: loss must give one number .* \[6\]"):
        with_linear_head(lambda z, y: jnp.sum(z))(X, W, Y)
    with pytest.raises(ValueError, match="targets must have one entry for each token"):
        with_linear_head(lambda z, y: z[:, 0])(X, W, Y[:4])
    with pytest.raises(TypeError, match="with_linear_head: loss must be a function"):
        with_linear_head(None)
