"""Registration of two volumes: initial search, refinement, quality figures.

Positions are physical, along (Z, Y, X) or (Y, X), in one unit for both volumes. A
`Transform` leads from a position in the high-resolution volume to the same piece of the
object in the low-resolution one.
"""
