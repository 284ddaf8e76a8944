"""Segmentation that uses the neighbourhood: local mean, hysteresis, bone contours."""
