"""Image files to (H, W, 3) uint8 RGB arrays."""
