"""Commands that create data: simulated scans, training pairs, generated volumes."""
