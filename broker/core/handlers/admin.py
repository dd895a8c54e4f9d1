"""The administrators' side of the core: what may be asked at an address of its own, which no client of models knows.

It speaks ZeroRPC as well. A change takes as long as models take to load, so it is answered later; meanwhile the asker
gets heartbeats.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from broker.core.deployment.deployment import Deployment
from broker.core.deployment.routing import MAX_WEIGHT
from broker.core.errors import ProcedureError
from broker.core.introspection import builtins as introspection
from broker.core.state.outbox import Outbox
from broker.core.state.procedures import Procedure
from broker.core.state.registry import Registry
from cluster.wire import events
from cluster.wire.events import ClientEvent
from cluster.wire.protocol import Version

BEAT_INTERVAL_S = 3.0
"""Seconds between two heartbeats to somebody who waits for a change."""

MAX_ARGUMENTS_BYTES = 64 * 1024
"""Longest arguments."""

_NO_ID = bytes(8)


class AdminHandler:
    """Takes the administrators' messages."""

    def __init__(self, deployment: Deployment, outbox: Outbox) -> None:
        self._deployment = deployment
        self._outbox = outbox
        self._open: dict[tuple[bytes, bytes], ClientEvent] = {}  # by identity and message id
        self._beaten_s = float("-inf")
        self._procedures: dict[str, Callable[..., None]] = {
            "list_models": self._list_models,
            "load_model": self._load_model,
            "unload_model": self._unload_model,
            "reload_model": self._reload_model,
            "route_model": self._route_model,
            "cancel_load": self._cancel_load,
        }
        builtins = [one for one in introspection.own_procedures() if one.name.startswith("_")]
        mine = [Procedure(name, doc, args) for name, (doc, args) in _DESCRIBED.items()]
        self._registry = Registry([*builtins, *mine])

    def message(self, identity: bytes, frames: Sequence[bytes], now_s: float) -> None:
        """A message: an event, mostly behind an empty delimiter."""
        try:
            event = events.read_event(frames[-1] if frames else b"")
        except events.BadFrameError:
            return
        if event.response_to is not None:
            waiting = self._open.get((identity, event.response_to))
            if waiting is not None and event.name == events.ZPC_HEARTBEAT:
                self._beat(identity, waiting)
        elif (identity, event.message_id) not in self._open:
            self._open[identity, event.message_id] = event
            self._first_event(identity, event, frames[-1], now_s)

    def client_lost(self, identity: bytes) -> None:
        """A send failed: nobody waits there any more. What was begun goes on."""
        for key in [key for key in self._open if key[0] == identity]:
            del self._open[key]

    def send_heartbeats_if_due(self, now_s: float) -> None:
        """Send a heartbeat to everybody who waits."""
        if now_s - self._beaten_s >= BEAT_INTERVAL_S:
            self._beaten_s = now_s
            for (identity, _), event in self._open.items():
                self._beat(identity, event)

    def _beat(self, identity: bytes, event: ClientEvent) -> None:
        self._outbox.to_admin(identity, events.encode_reply(event.message_id, _NO_ID, events.encode_heartbeat_body()))

    def _first_event(self, identity: bytes, event: ClientEvent, payload: bytes, now_s: float) -> None:
        def answer(value: object) -> None:
            if self._open.pop((identity, event.message_id), None) is None:
                return
            if isinstance(value, ProcedureError):
                body = events.encode_error_body(event.version, value.name, value.text)
            else:
                body = events.encode_ok_body(value)
            self._outbox.to_admin(identity, events.encode_reply(event.message_id, _NO_ID, body))

        try:
            procedure = self._registry.procedures.get(event.name) if event.name is not None else None
            if procedure is None:
                there = ", ".join(self._procedures)
                raise ProcedureError(
                    "NameError", f"{(event.name or '')[:80]!a} is nothing that can be asked here; {there} are"
                )
            args = _arguments(procedure, event, payload)
            if procedure.name in self._procedures:
                self._procedures[procedure.name](answer, *args)
                self._deployment.advance(now_s)
            else:
                answer(introspection.answer(self._registry, procedure.name, args))
        except ProcedureError as error:
            answer(error)

    # -- what can be asked ----------------------------------------------------------------------------------------

    def _list_models(self, answer: Callable[[object], None]) -> None:
        answer(self._deployment.list_models())

    def _load_model(self, answer: Callable[[object], None], entry: object, workers: object) -> None:
        if not isinstance(entry, dict) or not all(isinstance(key, str) for key in entry):
            raise ProcedureError(
                "ValueError", "the entry should be a map, as a configuration has it: module_name, class_name"
            )
        for key, value in entry.items():
            if not isinstance(value, str | bool | int | float | None):
                raise ProcedureError("ValueError", f"the entry's {key!r} should be a text, a number, or true or false")
        for key in ("module_name", "class_name"):
            if not isinstance(entry.get(key), str):
                raise ProcedureError("ValueError", f"the entry lacks {key!r}, which should be a text")
        if not isinstance(workers, list) or not all(isinstance(pattern, str) for pattern in workers):
            raise ProcedureError(
                "ValueError", "workers should be a list of texts: ids, hosts or addresses, with * for any"
            )
        self._deployment.load(entry, workers, answer)

    def _unload_model(self, answer: Callable[[object], None], name: object, version: object) -> None:
        self._deployment.unload(self._deployment.find(*_texts(name=name, version=version)), answer)

    def _reload_model(self, answer: Callable[[object], None], name: object, version: object) -> None:
        self._deployment.reload(self._deployment.find(*_texts(name=name, version=version)), answer)

    def _cancel_load(self, answer: Callable[[object], None]) -> None:
        answer(self._deployment.cancel())

    def _route_model(self, answer: Callable[[object], None], name: object, weights: object) -> None:
        (name,) = _texts(name=name)
        self._deployment.route(name, _weights(weights))
        answer([row for row in self._deployment.list_models() if row["model"] == name])


def _arguments(procedure: Procedure, event: ClientEvent, payload: bytes) -> list[Any]:
    if len(payload) - event.args_at > MAX_ARGUMENTS_BYTES:
        raise ProcedureError("BadRequest", f"the arguments have more than {MAX_ARGUMENTS_BYTES} bytes")
    try:
        args = events.read_arguments(payload, event.args_at)
    except events.BadArgumentsError as error:
        raise ProcedureError("BadRequest", str(error)) from error
    if len(args) != len(procedure.args):
        wanted = f"{procedure.name}({', '.join(procedure.args)})"
        raise ProcedureError("BadRequest", f"{wanted} takes {len(procedure.args)} argument(s), {len(args)} given")
    return args


def _texts(**values: object) -> list[str]:
    for name, value in values.items():
        if not isinstance(value, str):
            raise ProcedureError("ValueError", f"{name} should be a text, and not {type(value).__name__}")
    return [str(value) for value in values.values()]


def _weights(value: object) -> Mapping[Version, int]:
    if not isinstance(value, dict):
        raise ProcedureError("ValueError", "weights should be a map from versions to whole numbers")
    weights: dict[Version, int] = {}
    for text, weight in value.items():
        if type(weight) is not int or not 0 <= weight <= MAX_WEIGHT:
            raise ProcedureError(
                "ValueError", f"{text}={weight!a}: a weight should be a whole number up to {MAX_WEIGHT}"
            )
        try:
            weights[Version.read(str(text))] = weight
        except ValueError as error:
            raise ProcedureError("ValueError", str(error)) from error
    return weights


_DESCRIBED: dict[str, tuple[str, list[str]]] = {
    "list_models": ("Return what is hosted, by whom, and which share of calls it gets.", []),
    "load_model": (
        "Load a model on the workers that match, or on all; what is there is loaded anew.",
        ["entry", "workers"],
    ),
    "unload_model": ("Let a model's calls end, then have no worker host it.", ["name", "version"]),
    "reload_model": ("Load a model anew on every worker that hosts it.", ["name", "version"]),
    "cancel_load": ("Wait no longer for a model that is being loaded, and unload it where it is new.", []),
    "route_model": ("Deal calls that name no version out to versions, by weights.", ["name", "weights"]),
}
