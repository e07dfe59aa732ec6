"""What many maps show together: groups of images that do not belong, and what changed between two runs."""
