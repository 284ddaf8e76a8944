"""Registration of two volumes: initial search, refinement, measures of quality.

Positions are physical, along (Z, Y, X) or (Y, X), in the same unit for both volumes. A
`Transform` maps a position in the high-resolution volume to the position of the same
point of the object in the low-resolution volume.
"""
