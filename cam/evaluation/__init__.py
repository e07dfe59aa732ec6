"""Benchmarks that compare maps with each other and with baselines, with bootstrap intervals."""
