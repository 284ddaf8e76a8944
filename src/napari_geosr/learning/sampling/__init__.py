"""What a network is trained on: pairs of scans, splits, patches, blind spots."""
