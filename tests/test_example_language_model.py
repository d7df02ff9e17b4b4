import re

import pytest
from matplotlib.image import imread

from tests.examples import FAST_COMPILE, changed, run, share_of

SUMMARY = re.compile(
    r"held-out perplexity (?P<before>\d+) -> (?P<after>\d+); "
    r"largest difference of the two curves (?P<difference>\d+e[+-]\d+); "
    r"temporary memory (?P<head>\d+) MiB with the head, (?P<logits>\d+) MiB without"
)


def test_language_model(tmp_path):
    path = tmp_path / "language_model.png"
    result = run("language_model.py", "--smoke", "--output", path)
    assert result.returncode == 0, result.stderr
    found = SUMMARY.fullmatch(result.stdout.splitlines()[-1])
    assert found, result.stdout
    assert int(found["after"]) < int(found["before"]) / 4
    assert float(found["difference"]) < 1e-4
    assert int(found["head"]) < int(found["logits"]) / 1.25

    for name, memory in (("with the head", found["head"]), ("with all logits", found["logits"])):
        row = rf"^\W*{name}\W+[\d,]+\W+{memory} MiB\W+\d+\.\d+\W+\d+\.\d%\W*$"
        assert len(re.findall(row, result.stdout, flags=re.MULTILINE)) == 1, result.stdout

    picture = imread(path, format="png")
    height, width = picture.shape[:2]
    assert 600 < height < 2000 and 800 < width < 2500
    assert 0.3 < share_of(picture, "white") < 0.95
    curves, bars = picture[: height // 2], picture[height * 3 // 4 :]
    for color in ("#0072B2", "#E69F00"):
        assert share_of(curves, color) > 0.001
        assert share_of(bars, color) > 0.02


@pytest.mark.slow
def test_language_model_fails_when_it_learns_nothing_or_the_losses_differ(tmp_path):
    head = "return head(hidden, kernel, labels)"
    doubled = "value, right = head(hidden, kernel, labels)\n    return 2 * value, right"
    wrong = changed("language_model.py", tmp_path, (head, doubled), ("= 4e-3,", "= -4e-3,"))
    result = run(wrong, "--smoke", "--steps", "2", **FAST_COMPILE)
    assert result.returncode == 1
    assert "held-out perplexity did not fall" in result.stderr
    assert "two loss curves differ by more than 1e-03" in result.stderr
    assert SUMMARY.fullmatch(result.stdout.splitlines()[-1]), result.stdout
    assert (tmp_path / "language_model.png").exists()


def test_language_model_refuses_to_train_for_no_steps():
    result = run("language_model.py", "--steps", "0")
    assert result.returncode == 2
    assert "--steps must be at least 1" in result.stderr


def test_equinox_head():
    result = run("equinox_head.py", "--smoke")
    assert result.returncode == 0, result.stderr
    last = result.stdout.splitlines()[-1]
    before, after = map(float, re.fullmatch(r"loss (\d+\.\d+) -> (\d+\.\d+)", last).groups())
    assert after < before - 1


def test_equinox_head_fails_when_its_loss_does_not_fall(tmp_path):
    wrong = changed("equinox_head.py", tmp_path, ("optax.adam(1e-2)", "optax.adam(-1e-2)"))
    result = run(wrong, "--smoke", **FAST_COMPILE)
    assert result.returncode == 1
    assert "The loss did not fall" in result.stderr
