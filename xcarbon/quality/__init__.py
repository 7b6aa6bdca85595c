"""Quality checks of towers: what is implausible or inconsistent in them."""

from xcarbon.quality.checks import Report, check
from xcarbon.quality.plausibility import Finding

__all__ = ["Finding", "Report", "check"]
