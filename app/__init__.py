"""Snug's window: widgets, signals and words. Everything about models lives in `engine`."""
