"""Files that are being written: locks, journals, hidden parts, atomic replacement."""
