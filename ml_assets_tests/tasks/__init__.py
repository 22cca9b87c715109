"""Tests of ml_assets.tasks."""
