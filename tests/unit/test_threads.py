"""A thread that dies of an unforeseen exception ends its process, with a reason."""

import subprocess
import sys

from cluster.runtime.threads import EXIT_CODE

PROGRAM = """
import threading, time
from cluster.runtime import logs
from cluster.runtime.threads import ServerThread
logs.configure()
def die(): raise ValueError("no such thing")
CLASS(target=die, name="helper").start()
time.sleep(SECONDS)
"""


def run(class_of_thread: str, seconds: str) -> subprocess.CompletedProcess[str]:
    program = PROGRAM.replace("CLASS", class_of_thread).replace("SECONDS", seconds)
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)


def test_a_thread_of_the_server_that_dies_ends_the_process() -> None:
    ended = run("ServerThread", "60")
    assert ended.returncode == EXIT_CODE
    assert "CRITICAL cluster.runtime.threads: the thread 'helper' died" in ended.stderr
    assert "ValueError: no such thing" in ended.stderr


def test_any_other_thread_may_die() -> None:
    ended = run("threading.Thread", "0.2")
    assert ended.returncode == 0
    assert "ValueError: no such thing" in ended.stderr
