"""``python -m napari_geosr.jobs FOLDER``: the process of a job."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading

import psutil

from napari_geosr.core.errors import GeoSRError
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.local import turn
from napari_geosr.jobs.run import is_helper, run_steps


def main(folder: str) -> int:
    """Wait for the job's turn and run it; SIGTERM pauses it."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    job = JobFolder(folder)
    if is_helper():  # of `accelerate launch`: the first process keeps the folder
        return _run(job, stop)
    job.set_state(
        "queued",
        pid=os.getpid(),
        host=socket.gethostname(),
        started=psutil.Process().create_time(),
    )
    with turn(job) as granted:
        if not granted:
            job.clear_request()
            job.set_state("cancelled")
            return 0
        return _run(job, stop)


def _run(job: JobFolder, stop: threading.Event) -> int:
    try:
        for _ in run_steps(job, should_stop=stop.is_set):
            pass
    except GeoSRError as error:
        print(f"napari-geosr: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
