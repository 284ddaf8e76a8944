"""The commands ``napari-geosr jobs`` and ``napari-geosr profiles``."""
