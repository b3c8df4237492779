"""`snug-engine` in a package: the command line, and the worker of the window."""

import sys

from engine.__main__ import main

sys.exit(main())
