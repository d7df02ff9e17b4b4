import re

import numpy as np
import pytest

from tests.examples import changed, fails, picture, share_of, succeeds

LABEL_ULP, OTHER_ULP = 6, 8  # the library's contract for float32 gradients
ROW = r"^\W*{}\W+([\d,]+\.\d)\W+([\d,]+\.\d)\W*$"


def ulp_errors(output, name):
    """Returns the errors in a row of the table: at the label, and at the other classes."""
    found = re.findall(ROW.format(name), output, flags=re.MULTILINE)
    assert len(found) == 1, output
    return [float(number.replace(",", "")) for number in found[0]]


def test_digits(tmp_path):
    path, accuracy = tmp_path / "digits.png", r"test accuracy (0\.9[5-9]\d|1\.000)"
    printed, _ = succeeds("digits.py", "--output", path, summary=accuracy)
    at_label, elsewhere = ulp_errors(printed, "xent_jax")
    assert at_label <= LABEL_ULP and elsewhere <= OTHER_ULP, printed
    # If the network were unsure of every image, the comparison would show nothing.
    assert ulp_errors(printed, "textbook formula")[0] > 1000, printed

    pixels = picture(path, (800, 3000), (800, 3000))
    for half in np.split(pixels, [len(pixels) // 2]):
        assert share_of(half, "#0072B2") > 0.002  # curves above, bars below
    assert share_of(pixels[len(pixels) // 4 :], "#E69F00") > 0.002  # the labels' bars


@pytest.mark.slow
def test_digits_fails_when_it_has_not_learned(tmp_path):
    args = "--epochs", "1", "--output", tmp_path / "digits.png"
    printed = fails("digits.py", "test accuracy is below 0.95", args=args)
    assert re.fullmatch(r"test accuracy 0\.\d{3}", printed.splitlines()[-1])


GRADIENTS = re.compile(r"^│ \d +│ \d +│ ([+-]\d\.\d{6}) │ ([+-]\d\.\d{6}) │$", flags=re.MULTILINE)


def test_prove_your_own():
    wrong, mended = succeeds("prove_your_own.py")[0].split("Mended")
    passes = "check_grads, at its defaults: passes\nprove_vjp: "
    assert passes + "refuted" in wrong and passes + "proved" in mended
    gradients = np.array(GRADIENTS.findall(wrong), float)
    claimed, true = gradients.T
    assert np.abs(claimed - true).max() > 1e-3, wrong
    for part in ("y is in [0, k)", "KroneckerDelta(a1, y[a0])", "2*c*lse*exp(-lse + z[a0, a1])"):
        assert part in mended
    assert mended.splitlines()[-1].startswith("refuted without the 2, proved with it")


@pytest.mark.slow
def test_prove_your_own_fails_when_the_mended_gradient_is_wrong(tmp_path):
    wrong = changed("prove_your_own.py", tmp_path, ("with_backward(2)", "with_backward(3)"))
    fails(wrong, "The right gradient was not proved: the gradient to z", args=())
