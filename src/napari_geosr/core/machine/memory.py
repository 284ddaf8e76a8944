"""Determine the available memory, and recognise out-of-memory errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from napari_geosr.core.machine.allocation import allocated_memory

#: Values at or above this mean no limit: cgroup v1 reports a huge number in that case.
_NO_LIMIT = 1 << 60
_Version = tuple[str, tuple[str, ...], str, str]
#: For each cgroup version: folder of the controller, files with the limits, file with
#: the usage, and the entry of ``memory.stat`` for cached file pages, which the kernel
#: frees on demand.
_VERSION_1: _Version = (
    "memory",
    ("memory.limit_in_bytes",),
    "memory.usage_in_bytes",
    "total_inactive_file",
)
_VERSION_2: _Version = (
    "",
    ("memory.max", "memory.high"),
    "memory.current",
    "inactive_file",
)

#: Lower-case parts of out-of-memory messages of CUDA, MPS, cuDNN and cuBLAS, and of the
#: allocators of Linux, macOS and Windows.
_OUT_OF_MEMORY = (
    "out of memory",
    "alloc_failed",
    "can't allocate memory",
    "cannot allocate memory",
    "failed to allocate",
    "not enough memory",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that the device or the machine ran out of memory."""
    if isinstance(error, MemoryError):
        return True
    if not isinstance(error, RuntimeError):
        return False
    # Recognise torch's class by its name, because importing torch takes seconds.
    if type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error).lower()
    return any(phrase in text for phrase in _OUT_OF_MEMORY)


def free_host_memory(root: Path = Path("/")) -> int:
    """Return the bytes that this process can allocate without swapping or being killed.

    This is the minimum of the machine's available memory and the remainder of each
    memory limit that applies to the process: the limit of a container, a batch job
    (SLURM, OAR), a user session and all enclosing groups, the memory that the job has
    requested, and the limit on the address space (``ulimit -v``).

    Parameters
    ----------
    root : Path
        Folder that contains ``proc`` and ``sys``.
    """
    import psutil

    available = int(psutil.virtual_memory().available)
    return min(
        [
            available,
            *_rest_of_group_limits(root),
            *_rest_of_address_space(root),
            *_rest_of_allocation(),
        ]
    )


def _rest_of_allocation() -> Iterator[int]:
    """Yield the requested memory that this process and its children do not use.

    Queues may end a job that exceeds the requested memory, even if no limit can be
    read.
    """
    import psutil

    limit = allocated_memory()
    if limit is None:
        return
    own, used = psutil.Process(), 0
    for process in (own, *own.children(recursive=True)):
        with suppress(psutil.Error):  # the process has just ended
            used += process.memory_info().rss
    yield max(0, limit - used)


def _rest_of_address_space(root: Path) -> Iterator[int]:
    """Yield bytes left by a limit on the address space, which includes mapped files."""
    try:
        import resource
    except ImportError:  # not available on this system
        return
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return
    try:
        pages = int((root / "proc/self/statm").read_text().split()[0])
    except (OSError, ValueError):
        return
    yield max(0, limit - pages * resource.getpagesize())


def _rest_of_group_limits(root: Path) -> Iterator[int]:
    """Yield the bytes left by the limit of each of the process's control groups."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # not available on this system
        lines = []
    for line in lines:
        number, controllers, group = line.split(":", 2)
        if number == "0":
            version = _VERSION_2
        elif "memory" in controllers.split(","):
            version = _VERSION_1
        else:
            continue
        top = root / "sys/fs/cgroup" / version[0]
        parts = Path(group.lstrip("/")).parts
        # If the group is outside the container's view, the top folder is that group
        # itself.
        parts = () if ".." in parts else parts
        for depth in range(len(parts), -1, -1):
            left = _rest_of_limit(top.joinpath(*parts[:depth]), version)
            if left is not None:
                yield left


def _rest_of_limit(folder: Path, version: _Version) -> int | None:
    """Return the bytes left by the limit of one group; None if there is no limit."""
    _, limits, usage, cached = version
    numbers = map(_number, (folder / name for name in limits))
    known = [n for n in numbers if n is not None]
    used = _number(folder / usage)
    if not known or used is None or min(known) >= _NO_LIMIT:
        return None
    try:
        rows = (folder / "memory.stat").read_text().splitlines()
    except OSError:
        rows = []
    reclaimable = next(
        (int(r.split()[1]) for r in rows if r.startswith(f"{cached} ")), 0
    )
    return max(0, min(known) - used + reclaimable)


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # no such group or controller, or "max"
        return None
