"""The computer that a run uses: memory, processes, files that change."""
