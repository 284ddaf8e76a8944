"""Jobs: runs of operations, each kept in its own folder.

A job can be watched, paused, cancelled, resumed and found again from napari, a terminal
or another machine, because its folder holds the complete state.
"""
