"""The Settings page: every change takes effect at once, each has a reset."""
