"""Numbers to colors: overlays and their legends."""
