"""Restores series: each channel at each time point, in one run."""
