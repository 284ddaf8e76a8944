"""Top-level functions of the package, for notebooks and scripts.

They accept plain arrays as well as volumes, take every setting as a parameter and call
`operations`. ``napari_geosr/__init__.pyi`` lists them.
"""
