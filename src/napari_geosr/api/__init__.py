"""The functions of the package's top level, for notebooks and scripts.

They take plain arrays as well as volumes and show every setting in their signature; the
work is done in `operations`. ``napari_geosr/__init__.pyi`` lists them.
"""
