"""Measurements that say which map to trust, each with an interval and beside baselines."""
