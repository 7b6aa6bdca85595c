"""``python -m xcarbon`` is ``xcarbon``."""

import sys

from xcarbon.cli import main

sys.exit(main())
