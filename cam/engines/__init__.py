"""Run a network faster."""
