"""Which of a worker's threads leads."""

import queue
import threading
import time
from collections.abc import Callable

from worker.loop.leadership import PATIENCE_S, Leadership

WAIT_S = 10.0


class Followers:
    """Threads that note who leads, and do what they are told to."""

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


def test_who_hands_over_is_followed_by_another() -> None:
    go_on = threading.Event()

    def do(leadership: Leadership, term: int) -> None:
        if term < 2:
            leadership.hand_over()
        go_on.wait(WAIT_S)

    followers = Followers(3, do)
    followers.wait_for_leaders(3)
    go_on.set()
    assert [term for term, _ in followers.led] == [0, 1, 2]
    assert len({name for _, name in followers.led}) == 3, "the first two are still away"


def test_who_is_away_for_too_long_is_relieved_and_told_so() -> None:
    go_on = threading.Event()
    still_leads: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def do(leadership: Leadership, term: int) -> None:
        if term == 0:
            leadership.go_away()
            go_on.wait(WAIT_S)
            still_leads.put(leadership.come_back(term))
        go_on.wait(WAIT_S)

    followers = Followers(2, do)
    followers.wait_for_leaders(1)
    followers.leadership.relieve(time.monotonic())
    followers.leadership.relieve(time.monotonic() + PATIENCE_S)
    followers.leadership.relieve(time.monotonic() + PATIENCE_S)
    followers.wait_for_leaders(2)
    go_on.set()
    assert still_leads.get(timeout=WAIT_S) is False
    assert len(followers.led) == 2, "one is relieved once"


def test_who_is_back_in_time_leads_on() -> None:
    leadership = Leadership()
    leadership.go_away()
    leadership.relieve(time.monotonic())
    assert leadership.come_back(0)
    leadership.relieve(time.monotonic() + 1)
    leadership.go_away()
    assert leadership.come_back(0)
