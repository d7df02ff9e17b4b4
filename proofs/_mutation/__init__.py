"""Wrong backwards, made by machine, that the prover must not prove.

``mutate`` makes them, ``numbers`` says which are wrong, on jaxprs run by ``concretize`` in
floats and by ``high_precision``, ``mutants`` puts them to the prover.
"""
