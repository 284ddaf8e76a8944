"""Manage trained networks with their cards: bundles on disk and the zoo."""
