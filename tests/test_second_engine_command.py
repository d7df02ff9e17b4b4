"""The second engine tries all configurations, and its command prints and returns the verdicts."""

import itertools

import numpy as np
import pytest

pytest.importorskip("sympy", reason="the proofs need SymPy: pip install xent-jax[proofs]")

from xent_jax.proofs import array, labels, permutation  # noqa: E402
from xent_jax.proofs._prover.verdict import Verdict  # noqa: E402
from xent_jax.proofs._theorems.shipped import THEOREMS  # noqa: E402

from tests.second_engine import command  # noqa: E402
from tests.second_engine.concrete import SIZES  # noqa: E402
from tests.second_engine.inputs import configurations

pytestmark = pytest.mark.fast_compile
Z, Y = array("n k"), labels("n", classes="k")


def test_all_labellings_and_masks_are_taken():
    specs = {
        "z": array("n k"),
        "y": labels("n", classes="k", ignore=-1),
        "m": array("n k", dtype=bool),
    }
    every = configurations(specs, {"n": 2, "k": 2})
    bits = list(itertools.product([False, True], repeat=4))
    expected = {(y, m) for y in itertools.product([0, 1, -1], repeat=2) for m in bits}
    assert {(tuple(c["y"]), tuple(c["m"].ravel())) for c in every} == expected


def test_a_mask_that_keeps_the_labels_is_free_elsewhere():
    specs = {
        "z": array("n k"),
        "y": labels("n", classes="k"),
        "m": array("n k", dtype=bool, keeps="y"),
    }
    every = configurations(specs, {"n": 1, "k": 3})
    assert len(every) == 3 * 4
    assert all(c["m"][0, c["y"][0]] for c in every)


def test_the_shapes_include_ties_of_three_and_two_rows():
    assert {(s["n"], s["k"]) for s in SIZES} >= {(1, 1), (1, 2), (1, 3), (2, 2)}


def test_all_permutations_are_taken():
    both = configurations({"p": permutation("n"), "y": labels("n", classes="n")}, {"n": 3})
    assert {tuple(c["p"]) for c in both} == set(itertools.permutations(range(3))) and len(
        both
    ) == 6 * 27
    assert all(c["p"].dtype == np.int32 for c in both)


@pytest.mark.slow
def test_the_command_proves_theorems_by_name(capsys):
    assert command.main(["--only", "softcap: *", "--jobs", "1"]) == 0
    printed = capsys.readouterr().out
    names = [t.name for t in THEOREMS if t.name.startswith("softcap: ")]
    assert all(f"{name}: proved (n = 1" in printed for name in names)
    assert f"{len(names)} theorems, 0 not proved" in printed


def test_the_command_fails_where_a_theorem_is_not_proved(monkeypatch, capsys):
    answers = (answer for answer in [(0, Verdict("unknown", reason="why"))])
    monkeypatch.setattr(command, "shared_out", lambda *_: answers)
    assert command.main(["--only", "softcap: gradient"]) == 1
    printed = capsys.readouterr().out
    assert "softcap: gradient: unknown: why" in printed and "1 not proved" in printed
