"""Measures accuracy, speed, memory and traffic beside other libraries: ``python -m benchmarks``."""
