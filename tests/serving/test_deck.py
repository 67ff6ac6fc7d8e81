import threading
import time
from pathlib import Path

import numpy as np

from dualtower.retrieval.bundle_files import read_weights, write_weights


def test_weights_are_read_beside_other_threads(tmp_path: Path) -> None:
    # 64 MB take tens of milliseconds; a thread that may run meanwhile counts far in them.
    array = np.ones((16, 1_000_000), dtype=np.float32)
    write_weights(tmp_path, {"weight": array}, array[:1])
    counted, done = 0, threading.Event()

    def count() -> None:
        nonlocal counted
        while not done.is_set():
            counted += 1

    thread = threading.Thread(target=count)
    thread.start()
    time.sleep(0)
    before = counted
    with read_weights(tmp_path) as (state, _):
        weight = np.array(state["weight"])
    after = counted
    done.set()
    thread.join()
    np.testing.assert_array_equal(weight, array)
    assert after - before > 1_000
