"""`python -m engine`: the command line; with the word `worker` the child of the window, with
`probe` one that tries a module of llama.cpp.
"""

import sys


def main() -> int:
    if sys.argv[1:] == ["worker"]:
        from engine.worker import main as run
    elif sys.argv[1:2] == ["probe"]:
        from engine.llama.probe import main as try_module

        return try_module(*sys.argv[2:])
    else:
        from engine.cli import main as run
    return run()


if __name__ == "__main__":
    sys.exit(main())
