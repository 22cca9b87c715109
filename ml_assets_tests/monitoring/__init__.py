"""Tests of ml_assets.monitoring."""
