"""Structured illumination: patterns found in raw frames, and reconstruction."""
