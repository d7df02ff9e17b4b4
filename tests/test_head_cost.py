"""The linear head costs no more than it should: chunks, temporary memory, matrix products."""

import re

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.draws import draws
from tests.heads import drawn
from tests.programs import compiled, sizes, temp, to_be_read
from xent_jax import linear_softmax_cross_entropy, linear_token_statistics
from xent_jax._chunks import LIVE, chunks_for


def chunk_size(tokens, classes, budget):
    return chunks_for("f", tokens, 1, classes, budget).size


def pieces_of(width, classes):
    return chunks_for("f", 1, width, classes, None).pieces


# ---------------------------------------------------------------- the chunk


@draws(300)
@given(st.integers(0, 5000), st.integers(1, 300), st.integers(1, 400))
def test_a_chunk_keeps_to_its_budget_and_the_chunks_are_as_few_as_can_be(tokens, classes, rows):
    budget = LIVE * 4 * classes * rows
    size = chunk_size(tokens, classes, budget)
    assert 1 <= size <= rows
    fewest = -(-tokens // rows)
    count = -(-tokens // size)
    assert tokens == 0 or count == fewest or (tokens % size == 0 and count < 2 * fewest)


@pytest.mark.parametrize(
    ("tokens", "classes", "size"),
    [
        # 64 MiB of logits, and at least 512 tokens
        (2**20, 2**10, 2**14), (2**20, 2**15, 512), (2**20, 2**18, 512), (300, 2**18, 300),
        (0, 2**18, 1),
        # a size that divides the tokens is preferred; 521 is prime
        (1500, 2**18, 500), (2 * 521, 2**18, 348), (6 * 173, 2**18, 346),
    ],
)  # fmt: skip
def test_the_default(tokens, classes, size):
    assert chunk_size(tokens, classes, None) == size


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
    found = {n: chunks_for("f", n, 64, 512, None, True).size for n in (2**10, 2**14, 2**20)}
    assert found == {2**10: 512, 2**14: 1024, 2**20: 2**15}
    assert chunks_for("f", 2**14, 64, 512, LIVE * 4 * 512 * 100, True).size <= 100


@draws(200)
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
    assert temp(loss, *sizes(n, d, v)) <= budget + accumulators + inputs + 2**20
    assert temp(loss, *sizes(n, d, v), wrt=()) <= budget + 2**20


def test_a_tied_embedding_is_not_copied():
    def tied(x, embedding, y):
        return linear_softmax_cross_entropy(x, embedding, y, kernel_axes="VD")

    inputs, kernel, labels = sizes(1024, 128, 32768)
    lying = kernel[0][::-1], kernel[1]
    whole = temp(linear_softmax_cross_entropy, inputs, kernel, labels)
    assert temp(tied, inputs, lying, labels) <= whole + 2**16


def test_temporary_memory_does_not_grow_with_the_tokens():
    few, many = (temp(linear_softmax_cross_entropy, *sizes(n, 32, 8192)) for n in (4096, 16384))
    assert many <= few + 4 * 32 * (16384 - 4096) + 2**16  # the inputs' gradient grows


@pytest.mark.parametrize(
    ("reduction", "wrt", "count"),
    [
        ("mean", (), 1), ("mean", (0,), 2), ("mean", (1,), 2), ("mean", (0, 1), 3),
        ("none", (), 1), ("none", (0,), 3), ("none", (1,), 3), ("none", (0, 1), 4),
    ],
)  # fmt: skip
def test_no_product_is_made_for_a_gradient_that_nobody_asks_for(reduction, wrt, count):
    """The jaxpr too, from which XLA has removed nothing yet, has only the products needed."""

    def loss(x, w, y):
        options = {"reduction": reduction, "max_logits_bytes": LIVE * 4 * 512 * 128}
        return jnp.mean(linear_softmax_cross_entropy(x, w, y, **options))

    text = compiled(loss, *sizes(1024, 32, 512), wrt=wrt).as_text()
    assert len(re.findall(r" dot\(", text)) == count
    if wrt:
        x, w, y = jnp.ones((6, 4)), jnp.ones((4, 5)), jnp.zeros(6, jnp.int32)
        program = str(jax.make_jaxpr(jax.grad(loss, wrt))(x, w, y))
        assert len(re.findall(r"dot_general\[", program)) == count


def test_the_gradient_of_one_statistic_makes_no_work_for_the_others():
    x, w, b, y = drawn((12,))

    def of(x):
        return linear_token_statistics(x, w, y, b, top_k=3)

    def work(f):
        text = to_be_read(f, x).as_text()
        return set(re.findall(r"\b(TopK|sort|scatter|dot)\b", text))

    assert work(jax.grad(lambda x: jnp.sum(of(x).loss))) == {"dot"}
    assert work(of) & {"TopK", "sort"}
