"""Runs of docks that become jobs and start from the beginning; does not import Qt."""
