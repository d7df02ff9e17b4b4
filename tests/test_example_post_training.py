import re

import pytest
from matplotlib.image import imread

from tests.examples import FAST_COMPILE, changed, run, share_of

SUMMARY = re.compile(
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
    result = run("post_training.py", "--smoke", "--output", path)
    assert result.returncode == 0, result.stderr
    found = SUMMARY.fullmatch(result.stdout.splitlines()[-1])
    assert found, result.stdout
    assert float(found["after"]) > float(found["before"]) + 0.05
    assert float(found["difference"]) < 1e-5  # float32: sums in another order differ by 1e-6
    assert int(found["head"]) < int(found["logits"]) / 8
    for name, (head, logits) in PRODUCTS.items():
        assert re.search(rf"^\W*{name}\W+{head} \| {logits}\W", result.stdout, re.M), result.stdout

    picture = imread(path, format="png")
    height, width = picture.shape[:2]
    assert 400 < height < 1000 and 800 < width < 1600
    assert 0.3 < share_of(picture, "white") < 0.95
    assert share_of(picture, "#0072B2") > 0.002 and share_of(picture, "#E69F00") > 0.05


@pytest.mark.slow
def test_post_training_fails_when_it_learns_nothing_or_a_loss_differs(tmp_path, beside):  # noqa: F811
    still = "optax.adam(3e-3), params", "optax.sgd(0.0), params"
    doubled = "head, plain, (a, b))", "head, lambda a, b: 2 * plain(a, b), (a, b))"
    wrong = changed("post_training.py", tmp_path, still, doubled)
    result = run(wrong, "--smoke", **FAST_COMPILE)
    assert result.returncode == 1
    assert "Values or gradients differ from plain JAX's by over 1e-04" in result.stderr
