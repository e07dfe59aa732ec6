"""The mathematics of class activation maps: pure functions of arrays and tensors."""
