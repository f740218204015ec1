"""Measurements of fusiform, and the reports in ``results/``: ``python -m benchmarks``."""
