"""Parts of arrays that are read lazily: boxes, keys, planes and rows."""
