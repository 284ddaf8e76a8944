"""Questions that docks ask about a layer: whether its planes are slices or frames."""
