"""Kinds of models, one module each; `registry` lists them in order."""
