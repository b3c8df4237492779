"""Snug's window: widgets, signals and words. Everything about models lives in `engine`."""

from engine import __version__ as __version__
