"""Quality checks of towers: findings about values that are implausible or inconsistent.

``checks`` runs all checks and reports the findings; the checks of one tower are in ``plausibility``. This
folder may import ``io`` and the folders below it.
"""

from xcarbon.quality.checks import Report, check
from xcarbon.quality.plausibility import Finding

__all__ = ["Finding", "Report", "check"]
