"""Images to explanations."""
