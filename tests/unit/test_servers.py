"""Calls at stock ZeroRPC servers: what they get, what clients get, and what becomes of the calls of a lost one."""

from dataclasses import replace
from typing import Any

import msgpack
import pytest

from broker.core.core import Core
from broker.core.scheduling.silence import GRACE_S, LEAST_PATIENCE_S, PING_AFTER_S
from broker.core.state.access import Patterns
from broker.core.state.services import ServerRules
from cluster.wire.protocol import MAX_RESULT_BYTES
from tests.unit.stock_server import StockServer
from tests.unit.world import LIMITS, MAX_MESSAGE_BYTES, Reply, World

C1, C2 = b"client-1", b"client-2"
CALLS = 3
TIMEOUT_S = 50.0


def a_world(*retry: str, **limits: Any) -> World:
    rules = ServerRules(CALLS, TIMEOUT_S, Patterns(retry))
    return World(
        core=Core(
            max_message_bytes=MAX_MESSAGE_BYTES,
            limits=replace(LIMITS, **limits),
            servers=rules,
            instance=b"\x01\x02\x03\x04",
        )
    )


@pytest.fixture
def world() -> World:
    return a_world()


@pytest.fixture
def server(world: World) -> StockServer:
    server = StockServer(world)
    server.join()
    return server


def answers(replies: list[Reply]) -> list[Reply]:
    """What is no heartbeat."""
    return [reply for reply in replies if reply.name != "_zpc_hb"]


def error(reply: Reply) -> tuple[str, str]:
    assert reply.name == "ERR", reply
    return reply.args[0], reply.args[1]


# -- a call and its answer


def test_a_call_reaches_the_server_with_an_id_of_the_broker(world: World, server: StockServer) -> None:
    assert world.call(C1, "one", "add", [1, 2]) == []
    (call,) = server.calls()
    assert (call.name, call.args) == ("add", [1, 2])
    assert call.header == {"message_id": "010203040" + "0" * 15 + "1", "v": 3}
    (reply,) = server.say(call, "OK", 3)
    assert (reply.client, reply.name, reply.args) == (C1, "OK", [3])
    assert reply.header["response_to"] == "one"
    assert world.outcomes("add") == {"ok": 1}
    world.assert_at_rest()


def test_two_clients_with_one_id_are_told_apart(world: World, server: StockServer) -> None:
    world.call(C1, b"same", "add", [1, 2])
    world.call(C2, b"same", "add", [3, 4])
    first, second = server.calls()
    assert first.conversation != second.conversation
    (reply,) = server.say(second, "OK", 7)
    assert (reply.client, reply.args) == (C2, [7])


def test_what_hooks_put_into_the_header_arrives_on_both_sides(world: World, server: StockServer) -> None:
    context = {"zerorpc.task": {"id": b"\x00\xff"}, "trace": "t-1"}
    world.send_event(C1, {"message_id": b"1", "v": 3, **context}, "add", [1, 2])
    (call,) = server.calls()
    assert {key: call.header[key] for key in context} == context
    (reply,) = server.say(call, "OK", 3, answered_by="s1")
    assert reply.header["answered_by"] == "s1"
    assert reply.header["response_to"] == b"1"


def test_an_error_of_the_server_arrives_as_it_was_sent(world: World, server: StockServer) -> None:
    world.call(C1, 1, "add", [1])
    (reply,) = server.say(server.calls()[0], "ERR", "TypeError", "one is missing", "Traceback ...")
    assert (reply.name, reply.args) == ("ERR", ["TypeError", "one is missing", "Traceback ..."])
    assert world.outcomes("add") == {"error": 1}


def test_a_client_of_version_1_gets_the_text_of_an_error_alone(world: World, server: StockServer) -> None:
    world.call(C1, 1, "add", [1], v=1)
    (call,) = server.calls()
    assert call.header["v"] == 3
    (reply,) = server.say(call, "ERR", "TypeError", "one is missing", "Traceback ...")
    assert reply.name == "ERR"
    assert "one is missing" in reply.args[0]
    assert len(reply.args) == 1


def test_a_server_of_version_1_sends_an_error_of_one_text(world: World) -> None:
    server = StockServer(world, v=1)
    server.join()
    world.call(C1, 1, "add", [1])
    (reply,) = server.say(server.calls()[0], "ERR", "it is broken")
    assert reply.args == ["RemoteError", "it is broken", None]
    world.call(C1, 2, "add", [1], v=1)
    (reply,) = server.say(server.calls()[0], "ERR", "it is broken")
    assert reply.args == ["it is broken"]


@pytest.mark.parametrize(
    "arguments", [b"\x91\xa1", b"\x80", b"\x01", b"\xc1", b"\x91\x01\x02", b"\xdd\xff\xff\xff\xff"]
)
def test_arguments_that_no_server_can_read_are_refused(world: World, server: StockServer, arguments: bytes) -> None:
    payload = b"\x93" + msgpack.packb({"message_id": 1, "v": 3}) + msgpack.packb("add") + arguments
    (reply,) = world.say_bytes(C1, payload)
    assert error(reply) == ("BadRequest", "add: the arguments must be an array, complete and alone")
    assert server.received() == []


def test_a_header_with_a_broken_key_is_refused(world: World, server: StockServer) -> None:
    (reply,) = world.say_bytes(C1, b"\x93\x83\xa1\xff\x01\xaamessage_id\x01\xa1v\x03\xa3add\x90")
    assert error(reply) == ("BadRequest", "add: a text is not UTF-8")
    assert server.received() == []


def test_arguments_of_any_number_go_to_the_server_which_knows_best(world: World, server: StockServer) -> None:
    for count in (0, 1, 20):
        world.call(C1, count, "add", list(range(count)))
    assert [len(call.args) for call in server.calls()] == [0, 1, 20]


def test_an_answer_that_is_too_large_is_an_error(world: World, server: StockServer) -> None:
    world.call(C1, 1, "add", [1, 2])
    (reply,) = server.say(server.calls()[0], "OK", b"x" * MAX_RESULT_BYTES)
    assert error(reply)[0] == "ResultTooLarge"
    world.assert_at_rest()


# -- streams


def test_a_stream_goes_item_by_item_as_far_as_the_client_reads(world: World, server: StockServer) -> None:
    world.call(C1, 1, "count", [2])
    (call,) = server.calls()
    (reply,) = server.say(call, "STREAM", 0)
    assert (reply.name, reply.args) == ("STREAM", [0])
    world.send_event(C1, {"message_id": 2, "v": 3, "response_to": 1}, "_zpc_more", [9])
    (more,) = server.received()
    assert (more.name, more.args, more.conversation) == ("_zpc_more", [9], call.conversation)
    assert "message_id" in more.header
    assert [reply.name for reply in server.say(call, "STREAM", 1)] == ["STREAM"]
    assert [reply.name for reply in server.say(call, "STREAM_DONE")] == ["STREAM_DONE"]
    world.assert_at_rest()


def test_room_that_a_client_announces_while_its_call_waits_is_not_lost(world: World) -> None:
    world.call(C1, 1, "add")  # nobody has it
    server = StockServer(world)
    server.join()
    for message_id in range(10, 10 + CALLS):
        world.call(C2, message_id, "count", [2])
    first = server.calls()[0]
    world.call(C1, 2, "count", [2])
    world.send_event(C1, {"message_id": 3, "v": 3, "response_to": 2}, "_zpc_more", [9])
    assert server.received() == []
    server.say(first, "OK", None)
    call, more = server.received()
    assert (call.name, more.name, more.args) == ("count", "_zpc_more", [9])


def test_a_server_of_version_2_is_told_of_room_by_heartbeats(world: World) -> None:
    server = StockServer(world, v=2)
    server.join()
    world.call(C1, 1, "count", [2])
    (call,) = server.calls()
    server.say(call, "STREAM", 0)
    world.send_event(C1, {"message_id": 2, "v": 3, "response_to": 1}, "_zpc_more", [9])
    (more,) = server.received()
    assert (more.name, more.args) == ("_zpc_hb", [9])


def test_more_items_than_the_client_has_room_for_end_the_call(world: World, server: StockServer) -> None:
    world.call(C1, 1, "count", [2])
    (call,) = server.calls()
    server.say(call, "STREAM", 0)
    assert server.say(call, "STREAM", 1) == []  # the error waits for room
    (reply,) = world.send_event(C1, {"message_id": 2, "v": 3, "response_to": 1}, "_zpc_more", [1])
    name, text = error(reply)
    assert (name, text) == (
        "WorkerError",
        "server Tools-1 has sent more items than the client has room for; the call may still run",
    )
    assert server.say(call, "STREAM", 2) == []
    assert world.in_flight(server.identity)  # it may still run
    assert server.say(call, "STREAM_DONE") == []
    world.assert_at_rest()


def test_room_that_a_server_announces_does_nothing(world: World, server: StockServer) -> None:
    world.call(C1, 1, "count", [2])
    assert server.say(server.calls()[0], "_zpc_more", 100) == []
    assert world.core.counters.bad_frames.total() == 0


@pytest.mark.parametrize("name", ["OK", "ERR", "STREAM_DONE"])
def test_a_last_event_without_room_frees_the_capacity(world: World, server: StockServer, name: str) -> None:
    world.call(C1, 1, "count", [2])
    (call,) = server.calls()
    server.say(call, "STREAM", 0)
    assert server.say(call, name, "E", "text", None) == []
    assert world.in_flight(server.identity) == []
    (reply,) = world.send_event(C1, {"message_id": 2, "v": 3, "response_to": 1}, "_zpc_more", [1])
    assert error(reply)[0] == "WorkerError"
    world.assert_at_rest()


# -- heartbeats


def test_a_heartbeat_of_the_server_is_answered_at_once(world: World, server: StockServer) -> None:
    world.call(C1, 1, "add", [1, 2])
    (call,) = server.calls()
    assert server.say(call, "_zpc_hb", 0) == []  # clients get heartbeats at their own pace
    (answer,) = server.received()
    assert (answer.name, answer.conversation) == ("_zpc_hb", call.conversation)


def test_heartbeats_cease_when_the_client_has_gone(world: World, server: StockServer) -> None:
    world.call(C1, 1, "add", [1, 2])
    (call,) = server.calls()
    world.core.clients.lost(C1, "unreachable", world.now_s)
    server.say(call, "_zpc_hb", 0)
    assert server.received() == []
    world.pass_time(TIMEOUT_S + LEAST_PATIENCE_S + PING_AFTER_S + 1)
    (ping,) = server.calls()[:1]
    assert ping.name == "_zerorpc_ping"


def test_capacity_of_an_abandoned_call_comes_back_with_its_answer(world: World, server: StockServer) -> None:
    world.call(C1, 1, "add", [1, 2])
    (call,) = server.calls()
    world.core.clients.lost(C1, "unreachable", world.now_s)
    assert server.say(call, "OK", 3) == []
    world.assert_at_rest()


def test_capacity_of_an_abandoned_call_comes_back_without_an_answer(world: World, server: StockServer) -> None:
    world.call(C1, 1, "add", [1, 2])
    (call,) = server.calls()
    server.say(call, "_zpc_hb", 0)
    world.core.clients.lost(C1, "unreachable", world.now_s)
    for _ in range(40):  # the server ends the conversation by itself, and its loop turns
        world.pass_time(1.0)
        server.answer_pings()
    world.assert_at_rest()


def test_capacity_of_an_abandoned_call_comes_back_although_its_server_was_blocked(
    world: World, server: StockServer
) -> None:
    world.call(C1, 1, "add", [1, 2])
    (call,) = server.calls()
    world.pass_time(TIMEOUT_S - 5)
    server.say(call, "_zpc_hb", 0)
    world.core.clients.lost(C1, "unreachable", world.now_s)
    for _ in range(int(TIMEOUT_S + LEAST_PATIENCE_S + PING_AFTER_S + GRACE_S + 3)):
        world.pass_time(1.0)
        server.answer_pings()
    world.assert_at_rest()


# -- spread and queues


def test_calls_go_to_the_server_with_the_fewest(world: World) -> None:
    servers = [StockServer(world, b"s%d" % i) for i in range(3)]
    for server in servers:
        server.join()
    for message_id in range(6):
        world.call(C1, message_id, "add", [1, 2])
    assert [len(server.calls()) for server in servers] == [2, 2, 2]


def test_a_server_gets_no_more_calls_than_it_may(world: World, server: StockServer) -> None:
    for message_id in range(CALLS + 2):
        world.call(C1, message_id, "add", [1, 2])
    running = server.calls()
    assert len(running) == CALLS
    server.say(running[0], "OK", 3)
    assert len(server.calls()) == 1


def test_a_full_queue_is_busy(world: World, server: StockServer) -> None:
    for message_id in range(CALLS + LIMITS.client_calls):
        assert world.call(C1, message_id, "add", [1, 2]) == []
    (reply,) = world.call(C1, 99, "add", [1, 2])
    assert error(reply)[0] == "ServerBusy"


def test_a_call_that_runs_for_too_long_is_ended(world: World, server: StockServer) -> None:
    world.call(C1, 1, "add", [1, 2])
    (call,) = server.calls()
    replies = world.pass_time(TIMEOUT_S + 1)
    assert error(replies[-1])[0] == "DeadlineExceeded"
    assert server.say(call, "OK", 3) == []
    assert world.core.counters.late_replies == 1
    world.assert_at_rest()


def test_without_a_server_a_call_waits_for_one(world: World, server: StockServer) -> None:
    server.leave()
    assert world.call(C1, 1, "add", [1, 2]) == []
    world.pass_time(LIMITS.no_worker_grace_s / 2)
    again = StockServer(world, b"s2")
    again.join()
    assert len(again.calls()) == 1


def test_without_a_server_for_long_a_call_is_refused(world: World, server: StockServer) -> None:
    server.leave()
    world.call(C1, 1, "add", [1, 2])
    replies = world.pass_time(LIMITS.no_worker_grace_s + 1)
    assert error(replies[-1])[0] == "NoWorkers"


# -- servers that leave


def test_calls_of_a_lost_server_are_never_made_again(world: World, server: StockServer) -> None:
    other = StockServer(world, b"s2")
    other.join()
    world.call(C1, 1, "add", [1, 2])
    (has_it,) = [one for one in (server, other) if one.calls()]
    (reply,) = has_it.leave()
    name, text = error(reply)
    assert name == "WorkerLost"
    assert "may have been executed" in text
    assert server.calls() == other.calls() == []


def test_calls_of_a_method_that_may_be_repeated_are_made_again_once() -> None:
    world = a_world("ad*")
    servers = [StockServer(world, b"s%d" % i) for i in range(3)]
    for server in servers:
        server.join()
    world.call(C1, 1, "add", [b"x" * 100, 2])
    (first,) = [server for server in servers if world.in_flight(server.identity)]
    first.received()
    assert first.leave() == []
    second, (call,) = next((one, calls) for one in servers if one is not first and (calls := one.calls()))
    assert call.args == [b"x" * 100, 2]
    (reply,) = second.leave()
    assert error(reply)[0] == "WorkerLost"


def test_a_second_attempt_has_an_id_of_its_own() -> None:
    world = a_world("add")
    server = StockServer(world)
    server.join()
    world.call(C1, 1, "add", [1, 2])
    (first,) = server.calls()
    server.say(first, "_zpc_hb", 0)
    for _ in range(30):  # the broker takes the call for dropped
        world.pass_time(1.0)
        server.answer_pings()
    (second,) = server.calls()
    assert second.conversation != first.conversation
    assert server.say(first, "OK", "late") == []
    assert [reply.args for reply in server.say(second, "OK", 3)] == [[3]]


def test_a_stream_is_not_made_again_after_its_first_item() -> None:
    world = a_world("count")
    server, other = StockServer(world, b"s1"), StockServer(world, b"s2")
    server.join()
    other.join()
    world.call(C1, 1, "count", [5])
    has_it = server if world.in_flight(b"s1") else other
    (call,) = has_it.calls()
    has_it.say(call, "STREAM", 0)
    world.send_event(C1, {"message_id": 2, "v": 3, "response_to": 1}, "_zpc_more", [9])
    (reply,) = has_it.leave()
    assert error(reply)[0] == "WorkerLost"


def test_a_server_that_comes_back_is_another(world: World, server: StockServer) -> None:
    world.call(C1, 1, "add", [1, 2])
    (call,) = server.calls()
    server.leave()
    again = StockServer(world, b"s2")
    again.join()
    assert again.say(call, "OK", 3) == []
    assert world.core.counters.late_replies == 1


# -- silence


def test_a_blocked_server_keeps_its_calls(world: World, server: StockServer) -> None:
    world.call(C1, 1, "add", [1, 2])
    (call,) = server.calls()
    server.say(call, "_zpc_hb", 0)
    assert answers(world.pass_time(40.0)) == []
    pings = [event for event in server.calls() if event.name == "_zerorpc_ping"]
    assert pings  # the broker asks, and a blocked loop does not answer
    assert [reply.args for reply in server.say(call, "OK", 3)] == [[3]]


def test_a_call_that_its_server_has_dropped_is_lost(world: World, server: StockServer) -> None:
    world.call(C1, 1, "add", [1, 2])
    (call,) = server.calls()
    server.say(call, "_zpc_hb", 0)
    replies: list[Reply] = []
    for _ in range(40):
        replies += world.pass_time(1.0)
        replies += server.answer_pings()
    (reply,) = answers(replies)
    assert error(reply) == (
        "WorkerLost",
        "server Tools-1 has dropped the call, which may have been executed: its heartbeats have stopped",
    )
    world.assert_at_rest()


def test_a_dropped_call_of_a_busy_server_is_lost_too(world: World, server: StockServer) -> None:
    world.call(C1, "dropped", "add", [1, 2])
    (dropped,) = server.calls()
    server.say(dropped, "_zpc_hb", 0)
    ended: list[Reply] = []
    for message_id in range(60):
        world.call(C2, message_id, "add", [1, 2])
        for call in server.received(lambda event: event.name == "add"):
            server.say(call, "OK", 3)
        ended += [reply for reply in world.pass_time(0.5) + server.answer_pings() if reply.name == "ERR"]
    assert [error(reply)[0] for reply in ended] == ["WorkerLost"]
    world.assert_at_rest()


def test_a_server_that_answers_and_sends_slow_heartbeats_is_waited_for(world: World, server: StockServer) -> None:
    world.call(C1, 1, "add", [1, 2])
    (call,) = server.calls()
    for _ in range(2):  # one heartbeat in 12 s
        world.pass_time(12.0)
        server.say(call, "_zpc_hb", 0)
    for _ in range(20):
        assert answers(world.pass_time(1.0)) == []
        server.answer_pings()


def test_a_server_that_sends_no_heartbeats_at_all_is_waited_for(world: World, server: StockServer) -> None:
    world.call(C1, 1, "add", [1, 2])
    (call,) = server.calls()
    for _ in range(int(LEAST_PATIENCE_S + PING_AFTER_S + GRACE_S + 5)):
        assert answers(world.pass_time(1.0)) == []
        server.answer_pings()
    assert [reply.args for reply in server.say(call, "OK", 3)] == [[3]]


def test_a_server_with_rare_heartbeats_keeps_its_call_though_it_sends_items_between(world: World) -> None:
    server = StockServer(world, b"s1")
    server.join()
    world.call(C1, 1, "count", [2])
    (call,) = server.calls()
    world.send_event(C1, {"message_id": 2, "v": 3, "response_to": 1}, "_zpc_more", [9])
    ended: list[Reply] = []
    for second in range(1, 120):  # a heartbeat every 30 s, and an item one second before it
        ended += [reply for reply in world.pass_time(1.0) + server.answer_pings() if reply.name == "ERR"]
        if second % 30 == 29 and second < 100:
            server.say(call, "STREAM", second)
        elif second % 30 == 0:
            server.say(call, "_zpc_hb", 0)
    assert [error(reply)[0] for reply in ended] == []


def test_a_server_that_was_blocked_before_its_first_heartbeat_keeps_its_call(world: World, server: StockServer) -> None:
    world.call(C1, 1, "add", [1, 2])
    (call,) = server.calls()
    world.pass_time(3.0)  # blocked
    ended: list[Reply] = []
    for second in range(3, 49):
        ended += answers(world.pass_time(1.0) + server.answer_pings())
        if second == 30:
            server.say(call, "_zpc_hb", 0)
    assert ended == []


def test_a_quiet_server_gets_calls_only_if_all_are(world: World) -> None:
    blocked, other = StockServer(world, b"s1"), StockServer(world, b"s2")
    blocked.join()
    other.join()
    world.call(C1, 1, "add", [1, 2])
    if not world.in_flight(b"s1"):
        blocked, other = other, blocked
    world.pass_time(2.0)
    for message_id in range(2, 2 + CALLS):
        world.call(C1, message_id, "add", [1, 2])
    assert len(other.calls()) == CALLS
    world.call(C1, 99, "add", [1, 2])
    assert [call.name for call in blocked.calls()] == ["add", "_zerorpc_ping", "add"]


def test_a_server_with_a_long_call_is_not_quiet_if_its_loop_turns(world: World) -> None:
    busy, other = StockServer(world, b"s1"), StockServer(world, b"s2")
    busy.join()
    other.join()
    world.call(C1, 1, "add", [1, 2])
    for _ in range(8):
        world.pass_time(0.5)
        busy.answer_pings()
        other.answer_pings()
    for message_id in range(2, 5):
        world.call(C1, message_id, "add", [1, 2])
    assert {len(world.in_flight(b"s1")), len(world.in_flight(b"s2"))} == {2}


def test_a_server_that_says_something_is_not_asked(world: World, server: StockServer) -> None:
    for message_id in range(8):
        world.call(C1, message_id, "add", [1, 2])
        (call,) = server.calls()
        world.pass_time(0.75)
        server.say(call, "OK", 3)


def test_a_blocked_server_is_asked_once(world: World, server: StockServer) -> None:
    world.call(C1, 1, "add", [1, 2])
    world.pass_time(30.0)
    assert [event.name for event in server.calls()] == ["add", "_zerorpc_ping"]
    assert len(world.core.server_registrations.introductions._pings) == 1


def test_a_call_that_a_server_cannot_decode_ends_when_its_heartbeats_are_missing() -> None:
    world = a_world(client_bytes=200_000, queue_bytes=200_000)
    server = StockServer(world)
    server.join()
    world.call(C1, 1, "add", [1, 2])
    (first,) = server.calls()
    world.pass_time(5.0)
    server.say(first, "_zpc_hb", 0)
    server.say(first, "OK", 3)
    world.call(C1, 2, "add", [b"x" * 70_000, {1: 2}])  # too long to be read through
    replies: list[Reply] = []
    for _ in range(20):
        replies += answers(world.pass_time(1.0) + server.answer_pings())
    assert [error(reply)[0] for reply in replies] == ["WorkerLost"]
    world.assert_at_rest()


# -- hostile servers


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [b""],
        [b"x", b"y"],
        [b"", b"\xc1"],
        [b"", b""],
        [b"", b"", b""],
        [b"", msgpack.packb([{"message_id": b"1", "v": 3}, "add", []])],
        [b"", msgpack.packb([{"message_id": b"1", "v": 3, "response_to": b"1"}, "OK", [1]])],
        [b"", msgpack.packb([{"message_id": b"1", "v": 3, "response_to": "010203040" + "z" * 16}, "OK", [1]])],
        [
            b"",
            msgpack.packb([{"message_id": b"1", "v": 3, "response_to": "0102030407" + "0f" * 7 + "f"}, "OK", [1]]),
        ],
        [b"", msgpack.packb([{"message_id": b"1", "v": 3, "response_to": ["x"]}, ["OK"], 1])],
    ],
)
def test_a_message_that_belongs_to_nothing_does_nothing(world: World, server: StockServer, frames: list[bytes]) -> None:
    world.call(C1, 1, "add", [1, 2])
    (call,) = server.calls()
    counts = world.core.counters
    world.core.from_backend(server.identity, frames, world.now_s)
    assert world.flush() == []
    assert counts.bad_frames.total() + counts.late_replies == 1
    assert [reply.args for reply in server.say(call, "OK", 3)] == [[3]]


def test_an_answer_to_the_call_of_another_server_does_nothing(world: World, server: StockServer) -> None:
    thief = StockServer(world, b"s2", "Thief", "steal")
    thief.join()
    world.call(C1, 1, "add", [1, 2])
    (call,) = server.calls()
    assert thief.say(call, "OK", "stolen") == []
    assert world.core.counters.late_replies == 1
    assert [reply.args for reply in server.say(call, "OK", 3)] == [[3]]


def test_a_server_cannot_speak_the_protocol_of_workers(world: World, server: StockServer) -> None:
    world.core.from_backend(server.identity, [b"\x01", b"\x80"], world.now_s)
    world.flush()
    assert list(world.core.registry.workers) == [server.identity]


@pytest.mark.parametrize("name", ["add", "_zpc_cancel", 5, None, ["OK"]])
def test_an_event_that_answers_nothing_costs_nothing(world: World, server: StockServer, name: Any) -> None:
    world.call(C1, 1, "add", [1, 2])
    (call,) = server.calls()
    assert server.say(call, name, 1) == []
    assert world.core.counters.bad_frames["worker_event"] == 1
    assert [reply.args for reply in server.say(call, "OK", 3)] == [[3]]


def test_any_answer_to_a_ping_shows_that_the_loop_turns(world: World, server: StockServer) -> None:
    world.call(C1, 1, "add", [1, 2])
    (call,) = server.calls()
    server.say(call, "_zpc_hb", 0)
    replies = []
    for _ in range(40):
        replies += world.pass_time(1.0) + server.answer_pings(1, 2, 3)
    assert [error(reply)[0] for reply in answers(replies)] == ["WorkerLost"]


# -- repair


def test_a_repair_keeps_the_calls_of_servers(world: World, server: StockServer) -> None:
    for message_id in range(CALLS + 2):
        world.call(C1, message_id, "add", [1, 2])
    running = server.calls()
    world.core.repair(world.now_s)
    world.flush()
    assert server.calls() == []
    for call in running:
        assert [reply.args for reply in server.say(call, "OK", 3)] == [[3]]
    for call in server.calls():
        assert [reply.args for reply in server.say(call, "OK", 3)] == [[3]]
    world.assert_at_rest()


def test_a_repair_without_servers_has_calls_wait(world: World, server: StockServer) -> None:
    server.leave()
    world.call(C1, 1, "add", [1, 2])
    world.core.repair(world.now_s)
    world.flush()
    again = StockServer(world, b"s2")
    again.join()
    assert len(again.calls()) == 1
