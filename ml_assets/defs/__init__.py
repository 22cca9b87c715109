"""Instances: what this deployment is made of. Component types live outside this folder."""
