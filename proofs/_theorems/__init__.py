"""Theorems about the library's code: it equals a textbook function, or its derivative.

``theorem`` says what a theorem is, and ``shipped`` has the list of theorems, of which ``head`` and
``shards`` are the parts about the linear head and sharded classes. ``textbook`` has the textbook's
functions, made of ``textbook_parts``.
"""
