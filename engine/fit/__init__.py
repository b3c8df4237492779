"""What fits in this computer's memory: predictions, verdicts in words, the recipe to take."""
