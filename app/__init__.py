"""Snug's window: widgets, signals and words. Everything about models lives in `engine`."""

__version__ = "0.1.0"
