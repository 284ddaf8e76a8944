"""Questions about a layer, such as whether its planes are slices or frames."""
