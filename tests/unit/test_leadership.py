"""Which of a worker's threads leads (Leader/Followers)."""

import queue
import threading
import time
from collections.abc import Callable

from worker.loop.leadership import LEADER_TIMEOUT_S, Leadership

WAIT_S = 10.0


class Begun:
    """What a leader runs."""

    def __init__(self) -> None:
        self.started_s: float | None = time.monotonic()


class Followers:
    """Threads that record who leads, and then call `do`."""

    def __init__(self, threads: int, do: Callable[[Leadership, int], None]) -> None:
        self.leadership = Leadership()
        self.led: list[tuple[int, str]] = []
        self.changed = threading.Condition()

        def lead(term: int) -> None:
            with self.changed:
                self.led.append((term, threading.current_thread().name))
                self.changed.notify()
            do(self.leadership, term)

        self.leadership.start(threads, lead)

    def wait_for_leaders(self, count: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.led) >= count, WAIT_S)


def test_a_leader_that_promotes_a_new_one_is_followed_by_another_thread() -> None:
    go_on = threading.Event()

    def do(leadership: Leadership, term: int) -> None:
        if term < 2:
            leadership.promote_new_leader()
        go_on.wait(WAIT_S)

    followers = Followers(3, do)
    followers.wait_for_leaders(3)
    go_on.set()
    assert [term for term, _ in followers.led] == [0, 1, 2]
    assert len({name for _, name in followers.led}) == 3, "the first two are still busy"


def test_a_leader_that_runs_a_job_for_too_long_loses_the_lead() -> None:
    go_on = threading.Event()
    still_leads: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def do(leadership: Leadership, term: int) -> None:
        if term == 0:
            leadership.start_job(Begun())
            go_on.wait(WAIT_S)
            still_leads.put(leadership.end_job(term))
        go_on.wait(WAIT_S)

    followers = Followers(2, do)
    followers.wait_for_leaders(1)
    followers.leadership.check_leader(time.monotonic())
    followers.leadership.check_leader(time.monotonic() + LEADER_TIMEOUT_S)
    followers.leadership.check_leader(time.monotonic() + LEADER_TIMEOUT_S)
    followers.wait_for_leaders(2)
    go_on.set()
    assert still_leads.get(timeout=WAIT_S) is False
    assert len(followers.led) == 2, "one leader is replaced once"


def test_a_leader_whose_job_ends_in_time_goes_on_leading() -> None:
    leadership = Leadership()
    leadership.start_job(Begun())
    leadership.check_leader(time.monotonic())
    assert leadership.end_job(0)
    leadership.check_leader(time.monotonic() + 1)
    leadership.start_job(Begun())
    assert leadership.end_job(0)
