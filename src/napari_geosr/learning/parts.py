"""Batches in parts, for memory that runs out."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from napari_geosr.learning.method import Batch

#: What failures of memory are among.
FAILURES = (MemoryError, RuntimeError)
#: What devices and systems say of it, in small letters: CUDA, MPS, cuDNN and cuBLAS;
#: the allocators of Linux, macOS and Windows.
_PHRASES = (
    "out of memory",
    "alloc_failed",
    "can't allocate memory",
    "cannot allocate memory",
    "failed to allocate",
    "not enough memory",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether it was the device's memory, or the machine's, that ran out."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    said = str(error).lower()
    return isinstance(error, RuntimeError) and any(p in said for p in _PHRASES)


def length_of(batch: Batch) -> int:
    """Number of patches in a batch."""
    return len(next(iter(batch.values())))


def in_parts(batches: Sequence[Batch], parts: int) -> list[Batch]:
    """Halve batches until there are `parts`, or all have one patch."""
    found = list(batches)
    while len(found) < parts and any(length_of(batch) > 1 for batch in found):
        found = [
            {name: tensor[half] for name, tensor in batch.items()}
            for batch in found
            for half in _halves(length_of(batch))
        ]
    return found


def _halves(n: int) -> tuple[slice, ...]:
    middle = (n + 1) // 2
    return (slice(middle), slice(middle, n)) if n > 1 else (slice(n),)
