"""The demonstration of `cam invariance --demo`."""
