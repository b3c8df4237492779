"""The Shrink page: a source, this computer, and the result."""
