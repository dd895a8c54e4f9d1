"""The routing core, message by message."""

from dataclasses import asdict, replace
from typing import Any

import msgpack
import pytest

from broker.core.handlers.workers import DRAINING_BROKER_GRACE_S, STOP_GRACE_S
from broker.core.state import counters
from broker.core.state.call_table import HEARTBEAT_INTERVAL_S
from cluster.wire import protocol
from cluster.wire.descriptions import write_description
from tests.unit.world import GRACE_S, MAX_MESSAGE_BYTES, Reply, World, describe

A, B = b"client-a", b"client-b"
W1, W2 = b"w1", b"w2"


@pytest.fixture
def world() -> World:
    made = World()
    made.join(W1)
    return made


def test_a_call_goes_to_the_worker_and_its_answer_back_to_the_caller(world: World) -> None:
    assert world.call(A, b"id-1", args=[{"x": 1}]) == []
    (work,) = world.work_of(W1)
    assert work.event == [{"message_id": b"id-1", "v": 3}, "m_predict", [{"x": 1}]]

    (reply,) = world.answer(W1, work.number, args=[42])

    assert (reply.client, reply.name, reply.args) == (A, "OK", [42])
    assert reply.header["response_to"] == b"id-1"
    assert reply.header["message_id"]
    assert world.outcomes() == {counters.OK: 1}
    world.assert_at_rest()


@pytest.mark.parametrize("message_id", [b"0123456789abcdef0123456789abcdef", "a-node-uuid", 7, 2**63, b"1", "1"])
def test_a_client_gets_its_own_id_back_with_its_type(world: World, message_id: object) -> None:
    world.call(A, message_id)
    (reply,) = world.answer(W1, world.work_of(W1)[0].number)
    assert reply.header["response_to"] == message_id
    assert type(reply.header["response_to"]) is type(message_id)


def test_equal_ids_of_two_clients_are_two_conversations(world: World) -> None:
    world.join(W2)
    world.call(A, b"same", args=["a"])
    world.call(B, b"same", args=["b"])
    first, second = world.work_of(W1)[0], world.work_of(W2)[0]
    assert first.number != second.number
    assert [r.client for r in world.answer(W2, second.number)] == [B]
    assert [r.client for r in world.answer(W1, first.number)] == [A]
    world.assert_at_rest()


def test_ids_that_differ_in_type_only_are_two_conversations(world: World) -> None:
    for message_id in (b"1", "1", 1):
        world.call(A, message_id)
    assert len(world.core.calls) == 3
    assert not +world.core.counters.bad_frames


def test_the_same_id_twice_from_one_client_is_dropped(world: World) -> None:
    world.call(A, b"id")
    assert world.call(A, b"id") == []
    assert +world.core.counters.bad_frames == {"duplicate_message_id": 1}
    assert len(world.answer(W1, world.work_of(W1)[0].number)) == 1
    world.assert_at_rest()


def test_a_worker_gets_no_more_than_it_has_room_for(world: World) -> None:
    for i in range(3):
        world.call(A, i)
    (work,) = world.work_of(W1)
    assert len(world.core.calls.queues[world.pool("m")]) == 2
    world.answer(W1, work.number)
    (second,) = world.work_of(W1)
    assert second.event[0]["message_id"] == 1, "the one that waited longest is next"


def test_what_fits_goes_in_one_message(world: World) -> None:
    world.join(W2, slots=8, max_batch_size=8)
    for i in range(5):
        world.core.clients.message(
            A, [b"", msgpack.packb([{"message_id": i, "v": 3}, "m_predict", ["x"]])], world.now_s
        )
    world.flush()
    assert world.kinds_to(W2).count(protocol.WORK) == 1
    assert len(world.work_of(W2)) == 5, "the worker with the most room has room enough"


def test_the_worker_with_the_most_room_is_asked() -> None:
    world = World()
    world.join(W1, slots=2)
    world.join(W2, slots=4)
    for i in range(4):
        world.call(A, i)
    assert (len(world.work_of(W1)), len(world.work_of(W2))) == (1, 3)


def test_among_idle_workers_the_one_is_asked_that_was_asked_last() -> None:
    world = World()
    world.join(W1)
    world.join(W2)
    for i in range(2):
        world.call(A, i)
    world.answer(W1, world.work_of(W1)[0].number)
    world.answer(W2, world.work_of(W2)[0].number)
    for i in range(3):
        world.call(A, i)
        world.answer(W2, world.work_of(W2)[0].number)
    assert world.work_of(W1) == []


def test_no_worker_is_left_alone_for_long() -> None:
    world = World()
    for worker in (W1, W2, b"w3"):
        world.join(worker)
    asked = []
    for i in range(9):
        world.call(A, i)
        (worker,) = [w for w in (W1, W2, b"w3") if world.core.registry.workers[w].in_flight]
        world.answer(worker, world.work_of(worker)[0].number)
        asked.append(worker)
        world.now_s += 0.4
    assert all(asked.count(worker) == 3 for worker in (W1, W2, b"w3"))


def test_a_slow_worker_does_not_hold_up_the_rest() -> None:
    world = World()
    world.join(W1)
    world.join(W2)
    world.call(A, "slow")
    slow, fast = (W1, W2) if world.core.registry.workers[W1].in_flight else (W2, W1)
    for i in range(20):
        world.call(B, i)
        assert world.answer(fast, world.work_of(fast)[0].number)
    assert world.core.registry.workers[slow].in_flight == 1


def test_each_call_goes_to_a_worker_that_hosts_its_model() -> None:
    world = World()
    world.join(W1, "red")
    world.join(W2, "blue")
    world.call(A, 1, "blue_predict")
    world.call(A, 2, "red_predict")
    assert world.work_of(W1)[0].event[1] == "red_predict"
    assert world.work_of(W2)[0].event[1] == "blue_predict"


def test_a_full_model_does_not_block_another_on_the_same_worker() -> None:
    world = World()
    world.join(W1, "red", "blue")
    world.call(A, 1, "red_predict")
    world.call(A, 2, "red_predict")
    world.call(A, 3, "blue_predict")
    assert [work.event[1] for work in world.work_of(W1)] == ["red_predict", "blue_predict"]


# -- streams and later events


def test_a_stream_stays_with_its_worker_and_its_client(world: World) -> None:
    world.join(W2)
    world.call(A, b"stream")
    owner = W1 if world.core.registry.workers[W1].in_flight else W2
    (work,) = world.work_of(owner)
    assert [r.args for r in world.answer(owner, work.number, "STREAM", 1)] == [1]
    world.send_event(A, {"message_id": b"m1", "v": 3, "response_to": b"stream"}, "_zpc_more", [100])
    more = [send for send in world.to_workers if send[1][0] == protocol.MORE]
    assert more == [(owner, [protocol.MORE, work.number, (100).to_bytes(4, "big")])]
    assert [r.args for r in world.answer(owner, work.number, "STREAM", 2)] == [2]
    assert [r.name for r in world.answer(owner, work.number, "STREAM_DONE", None)] == ["STREAM_DONE"]
    assert world.outcomes() == {counters.OK: 1}
    world.assert_at_rest()


def test_slots_announced_in_the_queue_reach_the_worker_after_the_work(world: World) -> None:
    world.call(A, b"first")
    world.call(A, b"waits")
    world.send_event(A, {"message_id": b"m", "v": 3, "response_to": b"waits"}, "_zpc_more", [50])
    assert protocol.MORE not in world.kinds_to(W1)
    world.answer(W1, world.work_of(W1)[0].number)
    kinds = world.kinds_to(W1)
    assert kinds.index(protocol.WORK) < kinds.index(protocol.MORE)


def test_heartbeats_are_answered_by_the_broker_at_once(world: World) -> None:
    world.call(A, b"queued-or-not")
    world.call(A, b"queued")
    for call in (b"queued-or-not", b"queued"):
        (beat,) = world.send_event(A, {"message_id": b"hb", "v": 3, "response_to": call}, "_zpc_hb", [0])
        assert (beat.client, beat.name, beat.header["response_to"]) == (
            A,
            "_zpc_hb",
            call,
        )
    assert protocol.WORK in world.kinds_to(W1)
    assert not [kind for kind in world.kinds_to(W1) if kind not in (protocol.WORK, protocol.WELCOME)]


def test_an_old_conversation_is_beaten_to_and_a_young_one_is_not(world: World) -> None:
    world.call(A, b"old")
    assert world.pass_time(HEARTBEAT_INTERVAL_S - 0.5) == []
    world.call(B, b"young")
    beats = world.pass_time(1.0)
    assert [(beat.client, beat.name) for beat in beats] == [(A, "_zpc_hb")]


def test_an_hour_in_the_queue_is_no_silence(world: World) -> None:
    world.call(A, b"runs")
    world.call(B, b"waits")
    beats = world.pass_time(3600, step_s=0.5)
    for client in (A, B):
        assert len([beat for beat in beats if beat.client == client]) >= 3600 / (HEARTBEAT_INTERVAL_S + 0.5)


@pytest.mark.parametrize("slots", [-1, "ten", [1], None, 1.5])
def test_insane_slots_are_dropped(world: World, slots: object) -> None:
    world.call(A, b"id")
    world.send_event(A, {"message_id": b"m", "v": 3, "response_to": b"id"}, "_zpc_more", [slots])
    assert +world.core.counters.bad_frames == {"slots": 1}
    assert protocol.MORE not in world.kinds_to(W1)


def test_too_many_slots_are_clamped(world: World) -> None:
    world.call(A, b"id")
    world.send_event(A, {"message_id": b"m", "v": 3, "response_to": b"id"}, "_zpc_more", [2**62])
    (more,) = [frames for _, frames in world.to_workers if frames[0] == protocol.MORE]
    assert int.from_bytes(more[2], "big") <= 2**31


@pytest.mark.parametrize("response_to", [b"unknown", "id", [1], {}])
def test_an_event_of_no_conversation_is_dropped(world: World, response_to: object) -> None:
    world.call(A, b"id")
    assert world.send_event(A, {"message_id": b"m", "v": 3, "response_to": response_to}, "_zpc_hb", [0]) == []
    assert world.core.counters.bad_frames.total() == 1


def test_an_event_of_another_clients_conversation_is_dropped(world: World) -> None:
    world.call(A, b"id")
    assert world.send_event(B, {"message_id": b"m", "v": 3, "response_to": b"id"}, "_zpc_more", [5]) == []
    assert +world.core.counters.bad_frames == {"unknown_conversation": 1}
    assert protocol.MORE not in world.kinds_to(W1)


def test_unasked_events_never_reach_the_worker(world: World) -> None:
    world.call(A, b"id")
    for i in range(10_000):
        world.send_event(A, {"message_id": i, "v": 3, "response_to": b"id"}, "STREAM", [i])
    assert +world.core.counters.bad_frames == {"unexpected_event": 10_000}
    assert len(world.answer(W1, world.work_of(W1)[0].number)) == 1
    world.assert_at_rest()


# -- answers without a worker


def test_an_unknown_procedure_is_a_name_error(world: World) -> None:
    (reply,) = world.call(A, b"id", "nope", [])
    assert (reply.name, reply.args[0]) == ("ERR", "NameError")
    assert "'nope'" in reply.args[1]
    assert world.core.counters.unknown_method == {counters.NOT_FOUND: 1}
    world.assert_at_rest()


@pytest.mark.parametrize(
    "name", ["__init__", "_model", "run", "", "m_predict ", "x" * 1_000_000, "\udcff".encode("utf-8", "surrogatepass")]
)
def test_nothing_but_procedures_is_callable(world: World, name: object) -> None:
    world.core.clients._max_message_bytes = 1 << 24
    (reply,) = world.send_event(A, {"message_id": b"id", "v": 3}, name, [])
    assert reply.args[0] == ("NameError" if isinstance(name, str) else "BadRequest")
    assert len(reply.args[1]) < 300
    assert protocol.WORK not in world.kinds_to(W1)


@pytest.mark.parametrize("args", [[], ["x", "y"], 5, "x", None, {}])
def test_wrong_arguments_are_a_bad_request(world: World, args: object) -> None:
    (reply,) = world.send_event(A, {"message_id": b"id", "v": 3}, "m_predict", args)
    assert reply.args[0] == "BadRequest"
    assert world.outcomes() == {counters.BAD_REQUEST: 1}
    assert protocol.WORK not in world.kinds_to(W1)


def test_a_declared_array_beyond_the_message_is_a_bad_request(world: World) -> None:
    head = msgpack.packb({"message_id": b"id", "v": 3})
    (reply,) = world.say_bytes(A, b"\x93" + head + msgpack.packb("get_model_metadata") + b"\xdd\x05\xf5\xe1\x00")
    assert reply.args[0] == "BadRequest"


def test_a_large_message_is_refused(world: World) -> None:
    (reply,) = world.call(A, b"id", args=["x" * MAX_MESSAGE_BYTES])
    assert reply.args[0] == "MessageTooLarge"
    assert str(MAX_MESSAGE_BYTES) in reply.args[1]
    assert world.outcomes() == {counters.TOO_LARGE: 1}


def test_a_draining_broker_refuses_new_calls_and_finishes_old_ones(world: World) -> None:
    world.call(A, b"old")
    world.core.drain()
    (reply,) = world.call(A, b"new")
    assert reply.args[0] == "Draining"
    assert [r.name for r in world.answer(W1, world.work_of(W1)[0].number)] == ["OK"]
    world.assert_at_rest()


def test_a_worker_refuses_what_it_cannot_read_and_it_is_counted_so(world: World) -> None:
    world.call(A, b"id")
    error = msgpack.packb([{}, "ERR", ["BadRequest", "no", None]])
    (reply,) = world.reply(W1, world.work_of(W1)[0].number, error, protocol.REFUSE)
    assert reply.args[0] == "BadRequest"
    assert world.outcomes() == {counters.BAD_REQUEST: 1}
    world.assert_at_rest()


@pytest.mark.parametrize(
    ("version", "args"), [(3, ["E", "text", None]), (2, ["E", "text", None]), (1, ["E('text')"]), (0, ["E('text')"])]
)
def test_an_error_has_the_form_of_the_clients_protocol_version(world: World, version: int, args: object) -> None:
    world.call(A, b"id", v=version)
    (reply,) = world.answer(W1, world.work_of(W1)[0].number, "ERR", ["E", "text", None])
    assert reply.args == args
    assert world.outcomes() == {counters.ERROR: 1}


def test_a_workers_own_header_fields_reach_the_client(world: World) -> None:
    world.call(A, b"id")
    (reply,) = world.answer(W1, world.work_of(W1)[0].number, header={"trace": "t", "response_to": b"forged", "v": 9})
    assert reply.header["trace"] == "t"
    assert reply.header["response_to"] == b"id"
    assert reply.header["v"] == 3


@pytest.mark.parametrize("name", ["_zpc_hb", "_zpc_more", "FOO", "ok"])
def test_events_that_a_worker_has_no_business_to_send_go_nowhere(world: World, name: str) -> None:
    world.call(A, b"id")
    (work,) = world.work_of(W1)
    assert world.answer(W1, work.number, name) == []
    assert +world.core.counters.bad_frames == {"worker_event": 1}
    assert [reply.name for reply in world.answer(W1, work.number)] == ["OK"]
    world.assert_at_rest()


@pytest.mark.parametrize("nested", [b"\x91" * 990 + b"\x90", b"\x91" * 1001 + b"\x90", b"\x81\x01" * 1000 + b"\x90"])
@pytest.mark.parametrize("name", ["_zerorpc_help", "_zerorpc_args", "get_model_metadata"])
def test_deeply_nested_arguments_to_the_broker_itself_are_answered(world: World, name: str, nested: bytes) -> None:
    head = msgpack.packb({"message_id": b"id", "v": 3}) + msgpack.packb(name)
    (reply,) = world.say_bytes(A, b"\x93" + head + b"\x91" + nested)
    assert reply.args[0] in ("BadRequest", "KeyError", "ValueError")
    assert len(reply.args[1]) < 300


def test_large_arguments_to_the_broker_itself_are_not_unpacked(world: World) -> None:
    head = msgpack.packb({"message_id": b"id", "v": 3}) + msgpack.packb("_zerorpc_help")
    (reply,) = world.say_bytes(A, b"\x93" + head + b"\x91\xdd" + (50_000).to_bytes(4, "big") + b"\x80" * 50_000)
    assert reply.args[0] == "BadRequest"
    assert "at most" in reply.args[1]


def test_a_large_later_event_is_dropped_unread(world: World) -> None:
    world.call(A, b"id")
    world.send_event(A, {"message_id": b"m", "v": 3, "response_to": b"id"}, "_zpc_more", [[{}] * 10_000])
    assert +world.core.counters.bad_frames == {"unexpected_event": 1}


@pytest.mark.parametrize(
    "event",
    [
        b"",
        b"\xc1",
        b"\x93",
        b"\x93\x80",
        b"\x93\x80\xc0\xc0",
        b"\x93\x80\xa2OK",
        b"\x93\x80\xa3OK",
        b"garbage",
        b"\x93\x81\xa1",
    ],
)
def test_an_answer_that_cannot_be_read_is_an_error_and_not_silence(world: World, event: bytes) -> None:
    world.call(A, b"id")
    (reply,) = world.reply(W1, world.work_of(W1)[0].number, event)
    assert (reply.name, reply.args[0]) == ("ERR", "WorkerError")
    world.assert_at_rest()


# -- workers that come and go


@pytest.mark.fault(57)
def test_a_result_that_is_too_large_is_an_error_and_the_worker_stays(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "MAX_RESULT_BYTES", 1000)
    world.call(A, b"one")
    (work,) = world.work_of(W1)
    (reply,) = world.answer(W1, work.number, "OK", ["x" * 2000])
    assert (reply.name, reply.args[0]) == ("ERR", "ResultTooLarge")
    assert "bytes; at most 1000 are sent" in reply.args[1]
    world.assert_at_rest()
    world.call(A, b"two")
    assert world.work_of(W1)


@pytest.mark.fault(57)
@pytest.mark.parametrize("is_gone", [False, True])
def test_an_item_that_is_too_large_ends_its_stream(
    world: World, monkeypatch: pytest.MonkeyPatch, is_gone: bool
) -> None:
    monkeypatch.setattr(protocol, "MAX_RESULT_BYTES", 1000)
    world.call(A, b"one", "m_predict_stream")
    (work,) = world.work_of(W1)
    if is_gone:
        world.core.clients.lost(A, counters.UNREACHABLE, world.now_s)
        world.flush()
    replies = world.answer(W1, work.number, "STREAM", "x" * 2000)
    assert [reply.args[0] for reply in replies] == ([] if is_gone else ["ResultTooLarge"])
    assert world.kinds_to(W1).count(protocol.CANCEL) == 1
    assert world.answer(W1, work.number, "STREAM_DONE", None) == []
    world.assert_at_rest()


def test_without_a_worker_calls_wait_for_the_grace_and_then_are_refused(world: World) -> None:
    world.core.workers.lost(W1, world.now_s)
    assert world.call(A, b"early") == []
    replies = [reply for reply in world.pass_time(GRACE_S + 1) if reply.name == "ERR"]
    assert [(reply.client, reply.args[0]) for reply in replies] == [(A, "NoWorkers")]
    (reply,) = world.call(B, b"late")
    assert reply.args[0] == "NoWorkers"
    assert world.outcomes() == {counters.NO_WORKERS: 2}
    world.assert_at_rest()


def test_a_call_that_waits_in_the_grace_goes_to_the_worker_that_comes(world: World) -> None:
    world.core.workers.lost(W1, world.now_s)
    world.call(A, b"id")
    world.pass_time(GRACE_S / 2)
    world.join(W2)
    assert len(world.answer(W2, world.work_of(W2)[0].number)) == 1
    world.assert_at_rest()


def test_the_calls_of_a_dead_worker_run_elsewhere_in_turn_with_others(world: World) -> None:
    world.core.workers.lost(W1, world.now_s)
    world.join(W2, slots=2)
    for call in (b"one", b"two", b"three"):
        world.call(A, call)
    assert len(world.work_of(W2)) == 2
    world.core.workers.lost(W2, world.now_s)
    world.flush()
    world.join(b"w3", slots=2)
    assert world.core.counters.retries == 2
    for message_id in (b"one", b"three", b"two"):  # in turn with what waited
        (again,) = world.work_of(b"w3")
        assert again.event == [{"message_id": message_id, "v": 3}, "m_predict", ["x"]]
        assert [reply.name for reply in world.answer(b"w3", again.number)] == ["OK"]
    assert world.outcomes() == {counters.OK: 3}
    target = world.core.registry.procedures["m_predict"].target
    assert target is not None
    assert target.queue_wait.cumulative()[-1] == ("+Inf", 3.0)
    world.assert_at_rest()


def test_a_call_that_was_under_way_in_two_deaths_is_not_tried_again(world: World) -> None:
    world.join(W2)
    world.join(b"w3")
    world.call(A, b"poison")
    for worker in (W1, W2):
        assert len(world.work_of(worker)) == 1
        world.core.workers.lost(worker, world.now_s)
        replies = world.flush()
    ((name, text, _),) = [reply.args for reply in replies]
    assert name == "WorkerLost"
    assert "w2" in text
    assert world.work_of(b"w3") == []
    assert +world.core.counters.worker_lost == {counters.EXIT: 2}
    assert world.outcomes() == {counters.WORKER_LOST: 1}
    world.assert_at_rest()


def test_a_model_can_forbid_the_retry() -> None:
    world = World()
    world.join(W1, retry=False)
    world.join(W2, retry=False)
    world.call(A, b"id")
    world.core.workers.lost(W1, world.now_s)
    assert [reply.args[0] for reply in world.flush()] == ["WorkerLost"]
    assert world.work_of(W2) == []
    world.assert_at_rest()


def test_a_retry_that_finds_no_worker_is_answered_as_lost_and_not_as_never_executed(world: World) -> None:
    world.call(A, b"id")
    world.core.workers.lost(W1, world.now_s)
    replies = [reply for reply in world.pass_time(GRACE_S + 1) if reply.name == "ERR"]
    assert [reply.args[0] for reply in replies] == ["WorkerLost"]
    assert world.outcomes() == {counters.WORKER_LOST: 1}
    world.assert_at_rest()


def test_a_worker_that_was_silent_is_counted_as_lost_by_heartbeat(world: World) -> None:
    world.pass_time(protocol.HEARTBEAT_TIMEOUT_S + 1)
    world.core.workers.lost(W1, world.now_s)
    assert +world.core.counters.worker_lost == {counters.HEARTBEAT: 1}


def test_an_error_of_the_broker_in_mid_stream_waits_for_a_free_slot(world: World) -> None:
    world.call(A, b"id")
    world.answer(W1, world.work_of(W1)[0].number, "STREAM", 1)  # takes the only slot
    world.core.workers.lost(W1, world.now_s)
    assert world.flush() == []
    (reply,) = world.send_event(A, {"message_id": b"m", "v": 3, "response_to": b"id"}, "_zpc_more", [10])
    assert (reply.name, reply.args[0]) == ("ERR", "WorkerLost")
    assert world.outcomes() == {counters.WORKER_LOST: 1}
    world.assert_at_rest()


def test_a_late_answer_is_dropped_and_counted_and_its_worker_told(world: World) -> None:
    world.call(A, b"id")
    (work,) = world.work_of(W1)
    world.core.workers.lost(W1, world.now_s)
    world.flush()
    world.to_workers.clear()
    assert world.answer(W1, work.number) == []
    assert world.core.counters.late_replies == 1
    assert world.kinds_to(W1) == [protocol.RESET]


def test_a_second_answer_is_dropped(world: World) -> None:
    world.call(A, b"id")
    (work,) = world.work_of(W1)
    assert len(world.answer(W1, work.number)) == 1
    assert world.answer(W1, work.number) == []
    assert world.core.counters.late_replies == 1
    world.assert_at_rest()


def test_an_answer_to_another_workers_conversation_is_dropped(world: World) -> None:
    world.call(A, b"id")
    (work,) = world.work_of(W1)
    world.join(W2)
    assert world.answer(W2, work.number) == []
    assert len(world.answer(W1, work.number)) == 1
    world.assert_at_rest()


def test_a_draining_worker_gets_no_work_and_may_finish_what_it_has(world: World) -> None:
    world.call(A, b"under way")
    (work,) = world.work_of(W1)
    world.from_worker(W1, protocol.DRAIN)
    assert world.kinds_to(W1)[-1] == protocol.DRAIN, "the worker hears that no more will come"
    world.call(A, b"waits")
    assert world.work_of(W1) == []
    assert [r.name for r in world.answer(W1, work.number)] == ["OK"]
    world.from_worker(W1, protocol.BYE)
    assert not +world.core.counters.worker_lost
    world.join(W2)
    assert len(world.work_of(W2)) == 1


def test_a_forgotten_worker_is_told_to_register_anew() -> None:
    world = World()
    world.from_worker(W1, protocol.PING)
    assert world.kinds_to(W1) == [protocol.RESET]


def test_a_ready_said_twice_registers_once(world: World) -> None:
    world.join(W1)
    assert len(world.core.registry.workers) == 1
    assert world.pool("m").free == 1


def test_a_worker_that_comes_again_on_another_connection_is_there_once(world: World) -> None:
    world.call(A, b"id")
    body = write_description(describe("w1"))
    world.core.workers.message(b"other connection", [protocol.READY, body], world.now_s)
    world.flush()
    assert [worker.identity for worker in world.core.registry.workers.values()] == [b"other connection"]
    assert +world.core.counters.worker_lost == {counters.EVICTED: 1}
    assert len(world.work_of(b"other connection")) == 1


def test_every_worker_is_pinged_so_that_a_dead_one_is_noticed(world: World) -> None:
    world.pass_time(1.0, step_s=0.05)
    assert world.kinds_to(W1).count(protocol.PING) >= 4


def with_procedure(name: str) -> protocol.WorkerDescription:
    description = describe("w", "m")
    description.models[0].procedures[0] = protocol.ProcedureDescription(name, "", [])
    return description


def with_text(field: str, text: str) -> protocol.WorkerDescription:
    description = describe("w", "m")
    texts: dict[str, Any] = {field: text}
    description.models[0] = replace(description.models[0], **texts, procedures=[])
    return description


@pytest.mark.fault(54)
@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "msgpack"),
        (b"\xc1", "msgpack"),
        (msgpack.packb([]), "version"),
        (msgpack.packb({"protocol": 99}), "99"),
        (msgpack.packb({"protocol": True}), "bool"),
        (b"\x81\xa8protocol" + b"\x91" * 1000 + b"\x90", "version list"),
        (msgpack.packb({"protocol": protocol.VERSION}), "id"),
        (msgpack.packb({**asdict(describe("w")), "pid": "1"}), "pid"),
        (msgpack.packb({**asdict(describe("w")), "host": b"bytes"}), "JSON"),
        (msgpack.packb({**asdict(describe("w")), "id": ""}), "the id should be"),
        (msgpack.packb({**asdict(describe("w")), "id": "a\nb"}), "the id should be"),
        (msgpack.packb(asdict(describe("w", "same", "same"))), "the same qualified name"),
        (msgpack.packb(asdict(describe("w", slots=0))), "m: slots should be from 1 to 10,000, not 0"),
        (msgpack.packb(asdict(describe("w", batch_wait_ms=1e9))), "batch_wait_ms should be from 0 to 60,000.0"),
        (msgpack.packb(asdict(describe("w", timeout_s=1e12))), "timeout_s should be from 0.001 to 2,592,000.0"),
        (msgpack.packb(asdict(describe("w", max_batch_size=1 << 40))), "max_batch_size should be from 1 to 100,000"),
        (msgpack.packb(asdict(describe("w", *(f"m{n}" for n in range(1001))))), "READY has 1001 models"),
        (msgpack.packb(asdict(with_text("qualified_name", "a\nb"))), "qualified_name should be an identifier"),
        (msgpack.packb(asdict(with_text("qualified_name", "m" * 200))), "identifier of at most 128 characters"),
        (msgpack.packb(asdict(with_text("display_name", "a\x1b[2J"))), "display_name should be a line"),
        (msgpack.packb(asdict(with_text("description", "a\x1b[2J"))), "description should be at most"),
        (msgpack.packb(asdict(with_text("description", "a" * 20_000))), "(20000 characters)"),
        (msgpack.packb(asdict(replace(describe("w"), host="a\nb"))), "host should be a line"),
        (msgpack.packb(asdict(replace(describe("w"), metrics_address="\u202eb"))), "metrics_address should be a line"),
        (write_description(with_procedure("m_\x1b[2J")), "the name of a procedure should be an identifier"),
        (write_description(with_procedure("other_predict")), "should begin with 'm_'"),
        (b"\x81" + b"x" * (5 << 20), "at most"),
    ],
)
def test_a_ready_that_cannot_be_read_is_refused_with_a_reason(body: bytes, says: str) -> None:
    world = World()
    world.from_worker(W1, protocol.READY, body)
    ((_, (kind, reason)),) = world.to_workers
    assert kind == protocol.BYE
    assert says in reason.decode()
    assert not world.core.registry.workers


def test_a_worker_cannot_take_the_name_of_another_models_procedure(world: World) -> None:
    description = describe("w2", "other")
    description.models[0].procedures[0] = protocol.ProcedureDescription("m_predict", "", ["data"])
    objection = world.core.registry.objection(description.models)
    assert objection is not None
    assert "m_predict" in objection


@pytest.mark.parametrize(
    "frames",
    [[], [b""], [b"\x7f"], [b"", b"event"], [protocol.REPLY], [protocol.REPLY, b"x"], [protocol.WORK, b"1", b"2"]],
)
def test_what_is_no_worker_message_is_dropped(world: World, frames: list[bytes]) -> None:
    world.from_worker(W1, *frames)
    assert +world.core.counters.bad_frames == {"worker_protocol": 1}


# -- clients that go


def test_what_a_vanished_client_had_queued_is_never_executed(world: World) -> None:
    world.call(B, b"running")
    world.call(A, b"queued")
    world.core.clients.lost(A, counters.UNREACHABLE, world.now_s)
    world.answer(W1, world.work_of(W1)[0].number)
    assert world.work_of(W1) == []
    assert world.outcomes() == {counters.OK: 1, counters.CANCELLED: 1}
    world.assert_at_rest()


def test_what_a_vanished_client_had_running_is_cancelled_and_its_room_comes_back(world: World) -> None:
    world.call(A, b"id")
    (work,) = world.work_of(W1)
    world.core.clients.lost(A, counters.UNREACHABLE, world.now_s)
    world.flush()
    assert (W1, [protocol.CANCEL, work.number]) in world.to_workers
    assert world.pool("m").free == 0, "the worker is still at it"
    assert world.outcomes() == {}, "it may be executed or not"
    assert world.answer(W1, work.number) == []
    assert world.outcomes() == {counters.OK: 1}, "as the worker counts it"
    assert +world.core.counters.clients_dropped == {counters.UNREACHABLE: 1}
    world.assert_at_rest()


def test_what_was_cancelled_before_it_ran_is_counted_so(world: World) -> None:
    world.call(A, b"id")
    (work,) = world.work_of(W1)
    world.core.clients.lost(A, counters.UNREACHABLE, world.now_s)
    error = msgpack.packb([{}, "ERR", ["Cancelled", "", None]])
    assert world.reply(W1, work.number, error, protocol.REFUSE) == []
    assert world.outcomes() == {counters.CANCELLED: 1}
    world.assert_at_rest()


def test_what_ran_for_a_vanished_client_when_its_worker_died_is_not_tried_again(world: World) -> None:
    world.join(W2)
    world.call(A, b"id")
    world.core.clients.lost(A, counters.UNREACHABLE, world.now_s)
    world.core.workers.lost(W1, world.now_s)
    world.flush()
    assert world.work_of(W2) == []
    assert world.outcomes() == {counters.CANCELLED: 1}
    world.assert_at_rest()


def test_a_client_is_dropped_once_however_many_calls_it_had(world: World) -> None:
    for i in range(50):
        world.call(A, i)
    for _ in range(50):
        world.core.clients.lost(A, counters.STALLED, world.now_s)
    assert +world.core.counters.clients_dropped == {counters.STALLED: 1}


def test_the_books_balance() -> None:
    world = World()
    world.join(W1)
    sent = 0
    for i, (name, args) in enumerate(
        [("m_predict", ["x"]), ("m_predict", []), ("nope", []), ("get_models", []), ("get_model_metadata", ["q"])]
    ):
        world.call(A, i, name, args)
        sent += 1
    world.answer(W1, world.work_of(W1)[0].number)
    counted = sum(sum(p.all_outcomes().values()) for p in world.core.registry.counted())
    assert counted + world.core.counters.unknown_method.total() == sent


def test_a_worker_that_registers_again_unreadably_is_sent_away_and_gets_no_more_work(world: World) -> None:
    world.from_worker(W1, protocol.READY, b"\xc1")
    assert world.kinds_to(W1)[-1] == protocol.BYE
    assert not world.core.registry.workers
    world.call(A, b"id")
    assert world.work_of(W1) == []


def test_a_worker_that_is_refused_displaces_nobody(world: World) -> None:
    description = describe("w1", "get")
    description.models[0].procedures[0] = protocol.ProcedureDescription("get_models", "", [])
    world.from_worker(W2, protocol.READY, write_description(description))
    assert world.kinds_to(W2) == [protocol.BYE]
    assert [worker.identity for worker in world.core.registry.workers.values()] == [W1]


def send_heartbeat(world: World, client: bytes, message_id: bytes) -> list[Reply]:
    return world.send_event(client, {"message_id": b"h", "v": 3, "response_to": message_id}, "_zpc_hb", [0])


@pytest.mark.parametrize(("beats_every_s", "given_up_after_s"), [(1.0, 15.0), (5.0, 15.0), (30.0, 90.0)])
def test_a_call_whose_client_has_stopped_its_heartbeats_is_dropped(
    world: World, beats_every_s: float, given_up_after_s: float
) -> None:
    world.call(b"c", b"running")
    world.call(b"c", b"waiting")
    (work,) = world.work_of(b"w1")
    for _ in range(3):
        world.pass_time(beats_every_s)
        for message_id in (b"running", b"waiting"):
            assert send_heartbeat(world, b"c", message_id)[0].name == "_zpc_hb"
    world.pass_time(given_up_after_s - 0.5)
    assert len(world.core.calls) == 2
    world.pass_time(2)
    assert len(world.core.calls) == 0
    assert protocol.CANCEL in world.kinds_to(b"w1")
    world.answer(b"w1", work.number)
    assert world.work_of(b"w1") == [], "the one that waited is never begun"
    world.assert_at_rest()
    assert world.outcomes() == {"ok": 1, "cancelled": 1}


def send_cancel(world: World, client: bytes, message_id: bytes) -> list[Reply]:
    return world.send_event(client, {"message_id": b"x", "v": 3, "response_to": message_id}, "_zpc_cancel", [])


def test_a_client_can_cancel_a_call_that_waits_and_one_that_runs(world: World) -> None:
    world.call(b"c", b"running")
    world.call(b"c", b"waiting")
    (work,) = world.work_of(b"w1")
    for message_id in (b"running", b"waiting", b"waiting"):
        assert send_cancel(world, b"c", message_id) == []
    assert len(world.core.calls) == 0
    assert world.kinds_to(b"w1").count(protocol.CANCEL) == 1
    world.answer(b"w1", work.number)
    assert world.work_of(b"w1") == [], "the one that waited is never begun"
    assert world.outcomes() == {"ok": 1, "cancelled": 1}
    assert +world.core.counters.bad_frames == {"unknown_conversation": 1}, "the second one for the same call"
    world.assert_at_rest()


def test_a_client_cannot_cancel_the_call_of_another(world: World) -> None:
    world.call(b"c", b"id")
    send_cancel(world, b"another", b"id")
    assert len(world.core.calls) == 1
    assert protocol.CANCEL not in world.kinds_to(b"w1")


def test_a_client_without_heartbeats_is_waited_for(world: World) -> None:
    world.call(b"c", b"id")
    world.pass_time(1000)
    assert len(world.core.calls) == 1


def test_the_last_workers_are_kept_by_a_draining_broker_until_what_waits_has_been_answered(world: World) -> None:
    world.join(b"w2", "m")
    for i in range(3):
        world.call(b"c", i)
    world.core.drain()
    world.to_workers.clear()
    world.from_worker(b"w1", protocol.DRAIN)
    assert world.kinds_to(b"w1") == [protocol.DRAIN], "the other can answer what waits"
    world.from_worker(b"w2", protocol.DRAIN)
    assert world.kinds_to(b"w2") == [], "nobody else can"
    (number,) = world.in_flight(b"w2")
    world.answer(b"w2", number)
    (last,) = world.work_of(b"w2")
    world.pass_time(0.25)
    assert protocol.DRAIN in world.kinds_to(b"w2"), "nothing waits any more"
    world.answer(b"w2", last.number)
    assert world.outcomes() == {"ok": 2}


@pytest.mark.parametrize(("draining", "kept_s"), [(True, DRAINING_BROKER_GRACE_S), (False, STOP_GRACE_S)])
def test_a_last_worker_is_not_kept_for_ever(world: World, draining: bool, kept_s: float) -> None:
    world.call(b"c", 1)
    world.call(b"c", 2)
    if draining:
        world.core.drain()
    world.from_worker(b"w1", protocol.DRAIN)
    world.to_workers.clear()
    world.pass_time(kept_s - 0.5)
    assert protocol.DRAIN not in world.kinds_to(b"w1")
    world.pass_time(1.0)
    assert world.kinds_to(b"w1").count(protocol.DRAIN) == 1
