"""Where a model can be deployed. Each target is a module with `plan(release, settings)`; `plan.py` says what a plan is."""
