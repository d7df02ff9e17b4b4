import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.image import imread

EXAMPLES = Path(__file__).parents[1] / "examples"
LABEL_ULP, OTHER_ULP = 4, 6  # the library's contract for float32 gradients
ROW = r"^\W*{}\W+([\d,]+\.\d)\W+([\d,]+\.\d)\W*$"


def run(example, *args):
    # The reports are read below: no colours, and no narrower than they are.
    env = {k: v for k, v in os.environ.items() if k not in ("FORCE_COLOR", "TTY_COMPATIBLE")}
    return subprocess.run(
        [sys.executable, EXAMPLES / example, *args],
        env={**env, "COLUMNS": "80"},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )


def ulp_errors(output, name):
    """The two numbers of a row of the table: at the label, at the other classes."""
    found = re.findall(ROW.format(name), output, flags=re.MULTILINE)
    assert len(found) == 1, output
    return [float(number.replace(",", "")) for number in found[0]]


def share_of(picture, color):
    """The share of a picture's pixels that have just this color."""
    return np.mean(np.all(np.abs(picture[..., :3] - to_rgb(color)) < 1 / 255, axis=-1))


def test_digits(tmp_path):
    result = run("digits.py", "--output", tmp_path / "digits.png")
    assert result.returncode == 0, result.stderr
    last = result.stdout.splitlines()[-1]
    assert re.fullmatch(r"test accuracy (0\.9[5-9]\d|1\.000)", last), result.stdout

    at_label, elsewhere = ulp_errors(result.stdout, "xent_jax")
    assert at_label <= LABEL_ULP and elsewhere <= OTHER_ULP, result.stdout
    # Were the network unsure of every image, the comparison would show nothing.
    assert ulp_errors(result.stdout, "textbook formula")[0] > 1000, result.stdout

    picture = imread(tmp_path / "digits.png", format="png")
    height, width = picture.shape[:2]
    assert 800 < height < 3000 and 800 < width < 3000
    assert 0.3 < share_of(picture, "white") < 0.95
    for half in (picture[: height // 2], picture[height // 2 :]):
        assert share_of(half, "#0072B2") > 0.002  # curves above and bars
    assert share_of(picture[height // 4 :], "#E69F00") > 0.002  # the labels' bars


def test_digits_fails_when_it_has_not_learned(tmp_path):
    result = run("digits.py", "--epochs", "1", "--output", tmp_path / "digits.png")
    assert result.returncode == 1
    assert "test accuracy is below 0.95" in result.stderr
    assert re.fullmatch(r"test accuracy 0\.\d{3}", result.stdout.splitlines()[-1])
