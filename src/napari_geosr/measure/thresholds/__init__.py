"""Thresholds that depend on the neighbourhood: local mean, and hysteresis."""
