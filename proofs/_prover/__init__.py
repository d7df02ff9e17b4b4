"""The prover of code: jaxprs read as arrays of terms, at symbolic sizes.

``spec`` says what arguments are, ``trace`` makes the jaxprs, ``read`` and the readers of
primitives (``elementwise``, ``shapes``, ``scan``) make terms of them, ``linear`` transposes,
``prove`` asks ``_normal_form`` whether two are equal; ``counterexample`` looks for numbers.
"""
