"""Run XGBoost's tracker: ``python -m xcarbon.training.tracker WORKERS HOST``.

It prints its address, and ends with its parent process.
"""

from __future__ import annotations

import json
import os
import sys
import threading

from xgboost.tracker import RabitTracker

if __name__ == "__main__":
    workers, host = sys.argv[1:]
    tracker = RabitTracker(n_workers=int(workers), host_ip=host, sortby="task")
    tracker.start()
    try:
        parent, thread = os.getppid(), threading.Thread(target=tracker.wait_for, daemon=True)
        print(json.dumps(tracker.worker_args()), flush=True)  # an error if the parent has been killed
        thread.start()
        while thread.is_alive() and os.getppid() == parent:
            thread.join(1)
    finally:
        os._exit(0)  # without waiting for the tracker
