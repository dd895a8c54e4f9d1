"""When a process polls before it sleeps."""

from pathlib import Path

import pytest

from cluster.runtime import busy_poll
from cluster.runtime.busy_poll import BusyPoll

LIMIT_US = 300
LIMIT_S = LIMIT_US / 1e6
POLL_TOOK_S = 1e-5


class Peer:
    """What a selector waits for, with the time that passes meanwhile."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.next_s = float("inf")  # when something is ready
        self.sleeps = 0
        self.polls = 0

    def poll(self, timeout_s: float) -> list[str]:
        if timeout_s:
            self.sleeps += 1
            self.now_s = min(self.now_s + timeout_s, max(self.now_s, self.next_s))
        else:
            self.polls += 1
            self.now_s += POLL_TOOK_S
        return ["ready"] if self.now_s >= self.next_s else []

    def comes_in(self, seconds: float) -> None:
        self.next_s = self.now_s + seconds
        self.sleeps = self.polls = 0


@pytest.fixture
def peer() -> Peer:
    return Peer()


@pytest.fixture
def waiting(peer: Peer) -> BusyPoll[str]:
    return BusyPoll(peer.poll, LIMIT_US, clock=lambda: peer.now_s)


def test_a_process_that_has_waited_for_long_only_sleeps(peer: Peer, waiting: BusyPoll[str]) -> None:
    for _ in range(3):
        peer.comes_in(1.0)
        assert waiting.wait(5.0) == ["ready"]
        assert (peer.sleeps, peer.polls) == (1, 0)


def test_after_a_short_wait_it_polls(peer: Peer, waiting: BusyPoll[str]) -> None:
    peer.comes_in(LIMIT_S / 2)
    waiting.wait(5.0)
    peer.comes_in(LIMIT_S / 2)
    assert waiting.wait(5.0) == ["ready"]
    assert peer.sleeps == 0
    assert peer.polls > 1


def test_after_a_vain_poll_it_sleeps_until_a_wait_is_short_again(peer: Peer, waiting: BusyPoll[str]) -> None:
    peer.comes_in(LIMIT_S / 2)
    waiting.wait(5.0)
    peer.comes_in(1.0)
    assert waiting.wait(5.0) == ["ready"]
    assert peer.sleeps == 1
    assert peer.polls * POLL_TOOK_S == pytest.approx(LIMIT_S, rel=0.2)
    peer.comes_in(LIMIT_S / 2)
    waiting.wait(5.0)
    assert (peer.sleeps, peer.polls) == (1, 0)


def test_it_polls_no_longer_than_it_may_wait(peer: Peer, waiting: BusyPoll[str]) -> None:
    peer.comes_in(LIMIT_S / 2)
    waiting.wait(5.0)
    peer.comes_in(1.0)
    assert waiting.wait(LIMIT_S / 3) == []
    assert peer.polls * POLL_TOOK_S < LIMIT_S / 2


def test_it_does_not_poll_while_others_have_work(peer: Peer, waiting: BusyPoll[str]) -> None:
    peer.comes_in(LIMIT_S / 2)
    waiting.wait(5.0)
    peer.comes_in(LIMIT_S / 2)
    waiting.wait(5.0, may_poll=False)
    assert (peer.sleeps, peer.polls) == (1, 0)


def test_a_limit_of_0_turns_polling_off(peer: Peer) -> None:
    waiting = BusyPoll(peer.poll, 0, clock=lambda: peer.now_s)
    for _ in range(2):
        peer.comes_in(LIMIT_S / 2)
        waiting.wait(5.0)
        assert (peer.sleeps, peer.polls) == (1, 0)


@pytest.mark.parametrize(
    ("cpus", "where", "quota", "limit_us"),
    [
        (2, "", "max 100000\n", LIMIT_US),
        (2, "", None, LIMIT_US),
        (2, "cpu", "-1\n", LIMIT_US),
        (2, "", "150000 100000\n", 0),
        (2, "a/b", "150000 100000\n", 0),
        (2, "a", "150000 100000\n", 0),
        (2, "c", "150000 100000\n", LIMIT_US),
        (2, "cpu", "50000\n", 0),
        (1, "", "max 100000\n", 0),
    ],
)
def test_polling_needs_a_cpu_that_nobody_else_needs(
    cpus: int, where: str, quota: str | None, limit_us: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = tmp_path / "cgroup"
    folder = groups / where
    folder.mkdir(parents=True)
    (groups / "a" / "b").mkdir(parents=True, exist_ok=True)
    if quota is not None:
        (folder / ("cpu.cfs_quota_us" if where == "cpu" else "cpu.max")).write_text(quota)
    (tmp_path / "own").write_text("1:name=systemd:/a\n0::/a/b\n")
    monkeypatch.setattr(busy_poll, "_CGROUPS", groups)
    monkeypatch.setattr(busy_poll, "_OWN_CGROUP", tmp_path / "own")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cpus)), raising=False)
    assert busy_poll.limit_us(LIMIT_US) == limit_us
