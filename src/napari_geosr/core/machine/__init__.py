"""The computer on which a run takes place: memory, processes, changes to files."""
