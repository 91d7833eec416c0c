"""gunicorn.conf.py, extended so that workers report their greenlets on SIGUSR2."""

import gc
import json
import os
import runpy
import signal
from pathlib import Path
from typing import Any

globals().update(runpy.run_path(str(Path(__file__).parent.parent / "gunicorn.conf.py")))


def post_worker_init(worker: Any) -> None:
    """Install the handler of the signal, which Docxy itself does not have."""
    # Not imported in the master, because gevent patches these modules in the workers.
    import gevent  # noqa: PLC0415
    from greenlet import greenlet  # noqa: PLC0415

    folder = Path(os.environ["SOAK_FOLDER"])

    def count() -> None:
        gc.collect()
        # By type(): Flask's proxies answer isinstance() only within a request.
        greenlets = [item for item in gc.get_objects() if issubclass(type(item), greenlet)]
        temporary = folder / f"{worker.pid}.new"
        temporary.write_text(json.dumps({"greenlets": sum(not item.dead for item in greenlets)}))
        temporary.rename(folder / f"{worker.pid}.json")

    # In a greenlet of its own, so that it does not delay the request that the signal interrupts.
    signal.signal(signal.SIGUSR2, lambda *_: gevent.spawn(count))
    (folder / f"{worker.pid}.ready").touch()
