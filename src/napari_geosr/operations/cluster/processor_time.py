"""CPU time of workers that this process has not started itself.

The operating system adds up the CPU time of a process and its children. Workers
that a queue has started on other nodes report their CPU time with their results.
"""

from __future__ import annotations

import time


class WorkerTime:
    """CPU time that workers have reported to this process.

    Attributes
    ----------
    seconds : float
        Total of all reports so far.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._reported = 0.0

    def add(self, seconds: float) -> None:
        """Add a report."""
        self.seconds += seconds

    def report(self) -> float:
        """Return the CPU time of this worker since its last report."""
        used = time.process_time()
        new, self._reported = used - self._reported, used
        return new


#: CPU time that workers have reported to this process; in a worker, this object reports
#: the worker's own time.
WORKER_TIME = WorkerTime()
