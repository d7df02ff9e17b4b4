import re

import pytest

from tests.conftest import fast_compile_flags
from tests.examples import changed, fails, picture, run, share_of, succeeds

SUMMARY = (
    r"held-out perplexity (?P<before>\d+) -> (?P<after>\d+); "
    r"largest difference of the two curves (?P<difference>\d+e[+-]\d+); "
    r"temporary memory (?P<head>\d+) MiB with the head, (?P<logits>\d+) MiB without"
)


def test_language_model(tmp_path):
    path = tmp_path / "language_model.png"
    args = "language_model.py", "--smoke", "--output", path
    printed, found = succeeds(*args, summary=SUMMARY, **fast_compile_flags())
    assert int(found["after"]) < int(found["before"]) / 4
    assert float(found["difference"]) < 1e-4
    assert int(found["head"]) < int(found["logits"]) / 1.25

    for name, memory in (("with the head", found["head"]), ("with all logits", found["logits"])):
        row = rf"^\W*{name}\W+[\d,]+\W+{memory} MiB\W+\d+\.\d+\W+\d+\.\d%\W*$"
        assert len(re.findall(row, printed, flags=re.MULTILINE)) == 1, printed

    pixels = picture(path, (600, 2000), (800, 2500))
    curves, bars = pixels[: len(pixels) // 2], pixels[len(pixels) * 3 // 4 :]
    for color in ("#0072B2", "#E69F00"):
        assert share_of(curves, color) > 0.001
        assert share_of(bars, color) > 0.02


@pytest.mark.slow
def test_language_model_fails_when_it_learns_nothing_or_the_losses_differ(tmp_path):
    head = "return head(hidden, kernel, labels)"
    doubled = "value, right = head(hidden, kernel, labels)\n    return 2 * value, right"
    wrong = changed("language_model.py", tmp_path, (head, doubled), ("= 4e-3,", "= -4e-3,"))
    messages = "held-out perplexity did not fall", "two loss curves differ by more than 1e-03"
    printed = fails(wrong, *messages, args=("--smoke", "--steps", "2"))
    assert re.fullmatch(SUMMARY, printed.splitlines()[-1]), printed
    assert (tmp_path / "language_model.png").exists()


def test_language_model_refuses_to_train_for_no_steps():
    result = run("language_model.py", "--steps", "0")
    assert result.returncode == 2
    assert "--steps must be at least 1" in result.stderr


def test_equinox_head():
    summary = r"loss (\d+\.\d+) -> (\d+\.\d+)"
    before, after = map(float, succeeds("equinox_head.py", "--smoke", summary=summary)[1].groups())
    assert after < before - 1


@pytest.mark.slow
def test_equinox_head_fails_when_its_loss_does_not_fall(tmp_path):
    wrong = changed("equinox_head.py", tmp_path, ("optax.adam(1e-2)", "optax.adam(-1e-2)"))
    fails(wrong, "The loss did not fall")
