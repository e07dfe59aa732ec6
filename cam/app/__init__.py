"""A page in the browser to drop a picture on."""
