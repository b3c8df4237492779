"""Snug's engine: convert, shrink, fit and run language models, without a window.

It imports no Qt; the dependency points one way: app -> engine -> engine._native.
"""

__version__ = "0.1.0"
