"""A thread that dies of an unforeseen exception ends its process, with a reason."""

import subprocess
import sys

from cluster.runtime.threads import EXIT_CODE

PROGRAM = """
import threading, time
from cluster.runtime import logs, threads
logs.configure()
threads.end_with_any_thread()
def die(): raise ValueError("no such thing")
threading.Thread(target=die, name="helper").start()
time.sleep(60)
"""


def test_a_thread_that_dies_ends_the_process() -> None:
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == EXIT_CODE
    assert "CRITICAL cluster.runtime.threads: the thread 'helper' died" in ended.stderr
    assert "ValueError: no such thing" in ended.stderr
