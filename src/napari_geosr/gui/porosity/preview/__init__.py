"""Live previews in the Porosity dock: histogram, pores of a slice, and sample mask."""
