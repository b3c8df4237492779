"""`python -m engine`: the command line, or with the word `worker` the child of the window."""

import sys

if __name__ == "__main__":
    if sys.argv[1:] == ["worker"]:
        from engine.worker import main
    else:
        from engine.cli import main
    sys.exit(main())
