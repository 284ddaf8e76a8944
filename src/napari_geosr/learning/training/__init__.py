"""The training loop: batches, checkpoints, time limits, devices, previews."""
