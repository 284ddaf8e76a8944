"""Predicts the effect of a run on a scan from a few blocks; see `steps`."""
