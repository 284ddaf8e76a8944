"""Jobs: a run of an operation kept in one folder.

It can be watched, paused, cancelled, resumed and found again from napari, a terminal
or another machine: the folder holds the complete state.
"""
