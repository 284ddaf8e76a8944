"""Turn runs of docks into jobs that start from the beginning; does not import Qt."""
