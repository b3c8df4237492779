"""What flows into a model's matrices while it reads: collected once, used by all that shrinks."""
