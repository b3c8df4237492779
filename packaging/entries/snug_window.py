"""The window's program in a package."""

import sys

from app.__main__ import main

sys.exit(main())
