"""The report of a run: one HTML page that a browser opens from disk, without a server or a network."""
