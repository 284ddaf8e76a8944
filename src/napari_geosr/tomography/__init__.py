"""Reconstruct slices from projections: preparation, rotation axis, algorithms."""
