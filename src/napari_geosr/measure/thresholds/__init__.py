"""Segmentation by the neighbourhood: local mean, hysteresis, contours of bones."""
