"""Wrong backward passes, made by machine, that the prover must not prove.

``mutate`` makes them. ``numbers`` says which are wrong, from jaxprs that ``concretize`` runs in
floats and ``high_precision`` in many digits. ``mutants`` gives them to the prover, and
``command`` is ``python -m tests.mutation``.
"""
