"""Explain many images into a folder."""
