"""``python -m cephcaps.cli`` is ``cephcaps``."""

import sys

from cephcaps.cli import main

sys.exit(main())
