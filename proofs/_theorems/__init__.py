"""Theorems about the library's code: it equals a textbook function, or its derivative.

``theorem`` says what a theorem is, ``textbook`` has the functions, and ``shipped`` the list of
theorems. ``head`` and ``shards`` are the parts of that list about the linear head and sharded
classes.
"""
