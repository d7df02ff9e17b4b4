"""Accuracy, speed, memory and traffic beside the peers: ``python -m benchmarks`` runs them all."""
