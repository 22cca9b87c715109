"""Tests of ml_assets.evaluation."""
