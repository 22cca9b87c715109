"""Candidates, their training, selection and tracking: from a training set to the one model that may become champion."""
