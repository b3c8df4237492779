"""Pictures of every page and state, taken offscreen from the real app with sample data."""
