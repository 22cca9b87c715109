"""Kinds of clusterings, one module each."""
