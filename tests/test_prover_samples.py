"""The arguments that are tried have sizes that fit, and all permutations of few rows."""

import collections
import itertools

import numpy as np
from xent_jax.proofs import array, labels, permutation
from xent_jax.proofs._refutation.samples import samples

ROW = {"x": array("n"), "p": permutation("n")}
PRODUCTS = {"z": array("m*c k"), "y": labels("m*c", classes="k"), "b": array("m c")}


def test_samples_have_the_product_of_the_factors_sizes():
    rng = np.random.default_rng(0)
    drawn = list(samples(PRODUCTS, rng))
    assert all(x["z"].shape[0] == x["b"].size for x in drawn)
    assert all(x["y"].shape == x["z"].shape[:1] for x in drawn)
    assert any(len(set(x["b"].shape)) == 2 for x in drawn)  # m and c also differ


def orders(n):
    return set(itertools.permutations(range(n)))


def test_all_permutations_are_tried_of_few_rows_and_some_of_many():
    def tried(args, least=None):
        found = collections.defaultdict(set)
        for drawn in samples(args, np.random.default_rng(0), least):
            found[len(drawn["p"])].add(tuple(drawn["p"].tolist()))
            assert drawn["p"].dtype == args["p"].dtype
        return found

    for n, found in tried({"p": permutation("n", dtype=np.int8)}).items():
        assert found == orders(n)
    many = tried(ROW, {"n": 7})[7]
    assert {tuple(range(7)), tuple(range(7))[::-1]} < many < orders(7) and len(many) > 4
