"""Structured illumination: find the patterns in raw frames, and reconstruct images."""
