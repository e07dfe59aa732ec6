"""Networks written here whose class scores are an average over places: one architecture a file."""
