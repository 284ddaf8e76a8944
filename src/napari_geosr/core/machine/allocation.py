"""Cores and memory that the queue of a cluster has allocated to this process.

Queues do not always enforce these limits with affinity and control groups. A process
that exceeds them slows down or ends the jobs of others, or is killed.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

#: Environment variables with the number of cores per node, and the memory per node in
#: MiB, that a job has requested from a queue that does not report them.
CORES, MEGABYTES = "NAPARI_GEOSR_CORES", "NAPARI_GEOSR_MEGABYTES"
#: SLURM: cores of the job on this node, and of one task (if requested by task).
_ON_NODE, _PER_TASK = "SLURM_CPUS_ON_NODE", "SLURM_CPUS_PER_TASK"
#: SLURM: number of tasks that ``srun`` started together with this process.
_N_TASKS = "SLURM_STEP_NUM_TASKS"
#: OAR: file with one line for each allocated core, which contains the name of its node.
_OAR_FILES = ("OAR_NODEFILE", "OAR_NODE_FILE")
_MEBIBYTE = 2**20


def is_in_allocation() -> bool:
    """Return whether this process runs on cores that a queue has allocated to it."""
    names = (_ON_NODE, _PER_TASK, *_OAR_FILES, CORES)
    return any(os.environ.get(name) for name in names)


def allocated_cores() -> int | None:
    """Return the number of allocated cores on this computer; None if unknown."""
    known = _count(_ON_NODE) or _count(_PER_TASK)
    if _count(_N_TASKS) > 1:  # the cores of the node belong to several tasks
        known = _count(_PER_TASK) or known
    return known or _lines_of_node() or _count(CORES) or None


def within_allocation(n: int) -> int:
    """Limit a number of cores or threads to the number of allocated cores."""
    return min(n, allocated_cores() or n)


def allocated_memory() -> int | None:
    """Return the bytes allocated to the job on this computer; None if unknown."""
    megabytes = _count("SLURM_MEM_PER_NODE") or _count(MEGABYTES)
    if not megabytes and (per_core := _count("SLURM_MEM_PER_CPU")):
        n = _count(_ON_NODE) or _count(_PER_TASK)
        megabytes = n * per_core
    return megabytes * _MEBIBYTE or None


def _count(name: str) -> int:
    """Return a whole number from the environment; 0 if it is unset or not a number."""
    text = os.environ.get(name, "").strip()
    return int(text) if text.isdecimal() else 0


def _lines_of_node() -> int:
    """Return the number of OAR's cores on this computer; 0 if unknown."""
    path = next((p for name in _OAR_FILES if (p := os.environ.get(name))), "")
    try:
        lines = Path(path).read_text().split() if path else []
    except (OSError, UnicodeDecodeError):
        return 0
    own = _short(socket.gethostname())
    n = sum(_short(line) == own for line in lines)
    # On some clusters, OAR allocates whole nodes; a line of the file then does not
    # stand for a core.
    return n if n > 1 else 0


def _short(host: str) -> str:
    """Return the name of a computer without its domain."""
    return host.partition(".")[0].lower()
