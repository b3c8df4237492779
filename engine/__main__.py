"""`python -m engine`: the command line, or with the word `worker` the child of the window."""

import sys


def main() -> int:
    if sys.argv[1:] == ["worker"]:
        from engine.worker import main as run
    else:
        from engine.cli import main as run
    return run()


if __name__ == "__main__":
    sys.exit(main())
