"""A run as one page in a browser: everything at hand, computed there, without a server."""
