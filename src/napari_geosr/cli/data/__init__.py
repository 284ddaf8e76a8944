"""Commands that make data: simulated scans, training pairs, generated volumes."""
