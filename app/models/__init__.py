"""The Models page: what is on this computer, and whether it fits."""
