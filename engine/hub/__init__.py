"""Models in the world: the Hugging Face hub, and bringing its files here whole."""
