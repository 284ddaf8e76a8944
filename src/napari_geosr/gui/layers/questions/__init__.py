"""Questions of docks about a layer: whether its planes are slices or frames."""
