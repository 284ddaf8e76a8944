"""``napari-geosr submit VERB …``: run a command with its arguments in a queue."""
