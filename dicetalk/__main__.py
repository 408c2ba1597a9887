"""``python -m dicetalk``."""

import sys

from dicetalk.cli import main

sys.exit(main())
