"""The command line: every verb of the engine, for people and (`--json`) for scripts.

Exit codes: 0 done, 1 it could not be done (one sentence on stderr), 2 wrong usage, 130 stopped.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec

from engine.cli.parser import build_parser
from engine.errors import EngineError
from engine.words import shown


def main(argv: list[str] | None = None) -> int:
    _open_closed_streams()
    args = build_parser().parse_args(argv)
    try:
        result = args.verb(args)
        if args.json:
            print(msgspec.json.encode(result).decode())
        return 0
    except EngineError as error:
        print(f"snug-engine: {shown(f'{error.message} {error.hint}')}", file=sys.stderr)
        return 1
    except UnicodeEncodeError:
        print("snug-engine: A name here is not valid text.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except OSError as error:  # a full disk under our output, a working folder that is gone
        print(f"snug-engine: {error.strerror or error}.", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1


def _open_closed_streams() -> None:
    """Whoever starts this with a closed stream hears and says nothing on it."""
    nothing = Path(os.devnull)
    sys.stdin = sys.stdin or nothing.open(encoding="utf-8")
    sys.stdout = sys.stdout or nothing.open("w", encoding="utf-8")
    sys.stderr = sys.stderr or nothing.open("w", encoding="utf-8")
