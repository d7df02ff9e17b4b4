"""Tests the prover with wrong backward passes, made by machine, that it must not prove.

``mutate`` makes them. ``numbers`` decides which are wrong, from jaxprs that ``concretize`` runs in
floats and ``high_precision`` in many digits. ``mutants`` gives them to the prover, and
``command`` is ``python -m tests.mutation``.
"""
