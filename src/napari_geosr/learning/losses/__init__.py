"""Losses, one family a file, and in ``terms`` those that a person can choose.

Files of ``terms`` and :mod:`~napari_geosr.learning.losses.choice` import no torch:
``--help`` reads them.
"""
