"""Monitoring: has the data drifted, and how well do the predictions turn out once the labels arrive."""
