"""What waits for clients is bounded in bytes, for each and for all."""

from dataclasses import dataclass

from broker.backlog import MAX_BYTES, MAX_TOTAL_BYTES, Backlog

MIB = 1 << 20


@dataclass
class Message:
    """Stands for what ZeroMQ knows of a message."""

    done: bool = False


def test_one_client_has_room_for_so_much_and_again_when_it_has_read() -> None:
    backlog, message = Backlog(), Message()
    assert backlog.has_room(b"c", MAX_BYTES)
    backlog.add(b"c", MAX_BYTES, message)
    assert not backlog.has_room(b"c", 1)
    assert backlog.has_room(b"other", 64 * MIB)
    message.done = True
    assert backlog.has_room(b"c", MAX_BYTES)


def test_many_clients_that_do_not_read_cannot_fill_the_memory() -> None:
    backlog, sent = Backlog(), 0
    for number in range(1000):
        client = b"%d" % number
        while backlog.has_room(client, MIB):
            backlog.add(client, MIB, Message())
            sent += MIB
    assert sent < 2 * MAX_TOTAL_BYTES


def test_a_client_that_reads_is_served_beside_them() -> None:
    backlog = Backlog()
    for client in (b"a", b"b"):
        backlog.add(client, MAX_TOTAL_BYTES // 2, Message())
    assert backlog.has_room(b"reader", 64 * MIB)
    assert not backlog.has_room(b"a", 1)


def test_what_has_left_is_forgotten() -> None:
    backlog, message = Backlog(), Message()
    backlog.add(b"gone", MIB, message)
    message.done = True
    backlog.sweep()
    assert (backlog._waiting, backlog._bytes, backlog._total) == ({}, {}, 0)
