"""Training data of a network: pairs of scans, splits, patches, blind spots."""
