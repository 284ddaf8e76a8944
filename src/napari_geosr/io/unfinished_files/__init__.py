"""Manage files being written: locks, journals, hidden files, atomic replacement."""
