"""Measurements against plain scripts: one runner, one table of ratios. `python -m benchmarks --help`."""
