"""What a person reads when a file, or what was said about it, makes no problem."""

from __future__ import annotations


class ScaffoldError(ValueError):
    """Nothing was written. The message names the file, the column or option, the value, and the fix."""
