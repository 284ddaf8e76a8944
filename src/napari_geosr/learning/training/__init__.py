"""The training loop: batches, checkpoints, timing, devices, previews."""
