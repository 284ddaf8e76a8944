"""Restores volumes in shards: in several processes, or block by block on demand."""

from napari_geosr.operations.restore.shards.blocks import restore_blocks_steps

__all__ = ["restore_blocks_steps"]
