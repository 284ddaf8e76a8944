"""Exact tiled inference within a memory budget."""
