"""Versions: DVC, models made again from what they were made from, and the removal of what nobody needs."""
