"""Runs of docks that become jobs, which start them from the beginning, without Qt."""
