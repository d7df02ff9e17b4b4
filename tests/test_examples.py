import re

import numpy as np
from matplotlib.image import imread

from tests.examples import EXAMPLES, run, share_of

LABEL_ULP, OTHER_ULP = 6, 8  # the library's contract for float32 gradients
ROW = r"^\W*{}\W+([\d,]+\.\d)\W+([\d,]+\.\d)\W*$"


def ulp_errors(output, name):
    """The two numbers of a row of the table: at the label, at the other classes."""
    found = re.findall(ROW.format(name), output, flags=re.MULTILINE)
    assert len(found) == 1, output
    return [float(number.replace(",", "")) for number in found[0]]


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


GRADIENTS = re.compile(r"^│ \d +│ \d +│ ([+-]\d\.\d{6}) │ ([+-]\d\.\d{6}) │$", flags=re.MULTILINE)


def test_prove_your_own():
    result = run("prove_your_own.py")
    assert result.returncode == 0, result.stderr
    wrong, mended = result.stdout.split("Mended")
    passes = "check_grads, at its defaults: passes\nprove_vjp: "
    assert passes + "refuted" in wrong and passes + "proved" in mended
    gradients = np.array(GRADIENTS.findall(wrong), float)
    claimed, true = gradients.T
    assert np.abs(claimed - true).max() > 1e-3, wrong
    for part in ("y is in [0, k)", "KroneckerDelta(a1, y[a0])", "2*c*lse*exp(-lse + z[a0, a1])"):
        assert part in mended
    assert mended.splitlines()[-1].startswith("refuted without the 2, proved with it")


def test_prove_your_own_fails_when_the_mended_gradient_is_wrong(tmp_path):
    text = (EXAMPLES / "prove_your_own.py").read_text("utf-8")
    assert text.count("with_backward(2)") == 1
    wrong = tmp_path / "wrong.py"
    wrong.write_text(text.replace("with_backward(2)", "with_backward(3)"), "utf-8")
    result = run(wrong)
    assert result.returncode == 1
    assert "The right gradient was not proved: the gradient to z" in result.stderr
