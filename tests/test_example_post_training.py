import re

import pytest

from tests.examples import changed, fails, picture, share_of, succeeds

SUMMARY = (
    r"reward (?P<before>0\.\d+) -> (?P<after>0\.\d+); largest difference from plain JAX "
    r"(?P<difference>\d+e[+-]\d+); memory of all losses (?P<head>\d+) MiB with the head, "
    r"(?P<logits>\d+) MiB with all logits"
)
PRODUCTS = {  # with the head and with all logits
    "GRPO": (3, 3), "DPO": (4, 3), "distillation": (4, 4), "multi-token": (3, 3), "CLIP": (6, 3),
    "SigLIP": (3, 3),
}  # fmt: skip


def test_post_training(tmp_path):
    path = tmp_path / "post_training.png"
    printed, found = succeeds("post_training.py", "--smoke", "--output", path, summary=SUMMARY)
    assert float(found["after"]) > float(found["before"]) + 0.05
    assert float(found["difference"]) < 1e-5  # float32: sums in another order differ by 1e-6
    assert int(found["head"]) < int(found["logits"]) / 8
    for name, (head, logits) in PRODUCTS.items():
        assert re.search(rf"^\W*{name}\W+{head} \| {logits}\W", printed, re.M), printed

    pixels = picture(path, (400, 1000), (800, 1600))
    assert share_of(pixels, "#0072B2") > 0.002 and share_of(pixels, "#E69F00") > 0.05


@pytest.mark.slow
def test_post_training_fails_when_it_learns_nothing_or_a_loss_differs(tmp_path, beside):  # noqa: F811
    still = "optax.adam(3e-3), params", "optax.sgd(0.0), params"
    doubled = "head, plain, (a, b))", "head, lambda a, b: 2 * plain(a, b), (a, b))"
    wrong = changed("post_training.py", tmp_path, still, doubled)
    fails(wrong, "Values or gradients differ from plain JAX's by over 1e-04")
