"""Making a model smaller: recipes, the writing of the file, and how like the original it is."""
