"""Evaluation: metrics, slices, plots and reports of a model on rows that it has not seen."""
