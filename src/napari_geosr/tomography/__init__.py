"""From projections to slices: preparation, rotation axis, reconstruction."""
