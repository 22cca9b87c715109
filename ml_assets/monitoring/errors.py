"""The one error of monitoring."""

from __future__ import annotations


class MonitoringError(ValueError):
    """What should be monitored does not fit. The message names the thing, the value and the fix."""
