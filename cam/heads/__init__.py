"""Find the head of a classifier by running it, and prove it."""
