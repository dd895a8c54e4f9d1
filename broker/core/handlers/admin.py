"""The administrators' messages: procedures that change which models are hosted, at a socket of their own.

The socket speaks ZeroRPC. A change takes as long as the models take to load, so its answer comes later; until then the
administrator gets heartbeats.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from broker.core.deployment.deployment import Deployment
from broker.core.deployment.routing import MAX_WEIGHT
from broker.core.deployment.unloading import Answer
from broker.core.errors import ProcedureError
from broker.core.introspection import builtins
from broker.core.state.outbox import Outbox
from broker.core.state.procedures import Procedure
from broker.core.state.registry import Registry
from cluster.wire import events
from cluster.wire.arguments import BadArgumentsError, read_arguments
from cluster.wire.events import ClientEvent
from cluster.wire.protocol import Version

HEARTBEAT_INTERVAL_S = 3.0
"""Seconds between two heartbeats to an administrator who waits for an answer."""

MAX_ARGUMENTS_BYTES = 64 * 1024
"""Limit on the arguments of a procedure, in bytes."""

_NO_ID = bytes(8)


class AdminHandler:
    """Handles the messages from the administrators' socket."""

    def __init__(self, deployment: Deployment, outbox: Outbox) -> None:
        self._deployment = deployment
        self._outbox = outbox
        self._open: dict[tuple[bytes, bytes], ClientEvent] = {}  # by identity and message id
        self._heartbeats_sent_s = float("-inf")
        self._procedures: dict[str, Callable[..., None]] = {
            "list_models": self._list_models,
            "load_model": self._load_model,
            "unload_model": self._unload_model,
            "reload_model": self._reload_model,
            "route_model": self._route_model,
            "cancel_load": self._cancel_load,
        }
        zerorpc_procedures = [one for one in builtins.own_procedures() if one.name.startswith("_")]
        own_procedures = [Procedure(name, doc, args) for name, (doc, args) in _DESCRIPTIONS.items()]
        self._registry = Registry([*zerorpc_procedures, *own_procedures])

    def message(self, identity: bytes, frames: Sequence[bytes], now_s: float) -> None:
        """Handle a message: an event, usually behind an empty delimiter."""
        try:
            event = events.read_event(frames[-1] if frames else b"")
        except events.BadFrameError:
            return
        if event.response_to is not None:
            waiting = self._open.get((identity, event.response_to))
            if waiting is not None and event.name == events.ZPC_HEARTBEAT:
                self._send_heartbeat(identity, waiting)
        elif (identity, event.message_id) not in self._open:
            self._open[identity, event.message_id] = event
            self._first_event(identity, event, frames[-1], now_s)

    def client_lost(self, identity: bytes) -> None:
        """Forget the calls of an administrator who cannot be reached; the changes continue."""
        for key in [key for key in self._open if key[0] == identity]:
            del self._open[key]

    def send_heartbeats_if_due(self, now_s: float) -> None:
        """Send a heartbeat to every administrator who waits for an answer."""
        if now_s - self._heartbeats_sent_s >= HEARTBEAT_INTERVAL_S:
            self._heartbeats_sent_s = now_s
            for (identity, _), event in self._open.items():
                self._send_heartbeat(identity, event)

    def _send_heartbeat(self, identity: bytes, event: ClientEvent) -> None:
        body = events.encode_heartbeat_body()
        self._outbox.to_admin(identity, events.encode_reply(event.message_id, _NO_ID, body))

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
                known = ", ".join(self._procedures)
                text = f"{(event.name or '')[:80]!a} is not a procedure for administrators; there are {known}"
                raise ProcedureError("NameError", text)
            args = _arguments(procedure, event, payload)
            if procedure.name in self._procedures:
                self._procedures[procedure.name](answer, *args)
                self._deployment.advance(now_s)
            else:
                answer(builtins.answer(self._registry, procedure.name, args))
        except ProcedureError as error:
            answer(error)

    # -- the procedures -------------------------------------------------------------------------------------------

    def _list_models(self, answer: Answer) -> None:
        answer(self._deployment.list_models())

    def _load_model(self, answer: Answer, entry: object, workers: object) -> None:
        self._deployment.load(_checked_entry(entry), _checked_patterns(workers), answer)

    def _unload_model(self, answer: Answer, name: object, version: object) -> None:
        self._deployment.unload(self._deployment.find(*_strings(name=name, version=version)), answer)

    def _reload_model(self, answer: Answer, name: object, version: object) -> None:
        self._deployment.reload(self._deployment.find(*_strings(name=name, version=version)), answer)

    def _cancel_load(self, answer: Answer) -> None:
        answer(self._deployment.cancel())

    def _route_model(self, answer: Answer, name: object, weights: object) -> None:
        (name,) = _strings(name=name)
        self._deployment.route(name, _checked_weights(weights))
        answer([row for row in self._deployment.list_models() if row["model"] == name])


# -- checks of the arguments ------------------------------------------------------------------------------------------


def _arguments(procedure: Procedure, event: ClientEvent, payload: bytes) -> list[Any]:
    if len(payload) - event.args_at > MAX_ARGUMENTS_BYTES:
        raise ProcedureError("BadRequest", f"the arguments have more than {MAX_ARGUMENTS_BYTES} bytes")
    try:
        args = read_arguments(payload, event.args_at)
    except BadArgumentsError as error:
        raise ProcedureError("BadRequest", str(error)) from error
    if len(args) != len(procedure.args):
        signature = f"{procedure.name}({', '.join(procedure.args)})"
        text = f"{signature} takes {len(procedure.args)} argument(s), {len(args)} given"
        raise ProcedureError("BadRequest", text)
    return args


def _strings(**values: object) -> list[str]:
    for name, value in values.items():
        if not isinstance(value, str):
            raise ProcedureError("ValueError", f"{name} should be a string, not {type(value).__name__}")
    return [str(value) for value in values.values()]


def _checked_entry(entry: object) -> dict[str, Any]:
    if not isinstance(entry, dict) or not all(isinstance(key, str) for key in entry):
        text = "the entry should be a map with module_name and class_name, as in a configuration"
        raise ProcedureError("ValueError", text)
    for key, value in entry.items():
        if not isinstance(value, str | bool | int | float | None):
            raise ProcedureError("ValueError", f"the entry's {key!r} should be a string, number or boolean")
    for key in ("module_name", "class_name"):
        if not isinstance(entry.get(key), str):
            raise ProcedureError("ValueError", f"the entry lacks {key!r}, which should be a string")
    return entry


def _checked_patterns(patterns: object) -> list[str]:
    if not isinstance(patterns, list) or not all(isinstance(pattern, str) for pattern in patterns):
        text = "workers should be a list of strings: ids, hosts or addresses; * matches any text"
        raise ProcedureError("ValueError", text)
    return patterns


def _checked_weights(value: object) -> Mapping[Version, int]:
    if not isinstance(value, dict):
        raise ProcedureError("ValueError", "weights should be a map from versions to whole numbers")
    weights: dict[Version, int] = {}
    for text, weight in value.items():
        if type(weight) is not int or not 0 <= weight <= MAX_WEIGHT:
            reason = f"{text}={weight!a}: a weight should be a whole number up to {MAX_WEIGHT}"
            raise ProcedureError("ValueError", reason)
        try:
            weights[Version.read(str(text))] = weight
        except ValueError as error:
            raise ProcedureError("ValueError", str(error)) from error
    return weights


_DESCRIPTIONS: dict[str, tuple[str, list[str]]] = {
    "list_models": ("Return the model versions, their workers, and their shares of the calls.", []),
    "load_model": (
        "Load a model on the workers that match, or on all; a worker that hosts it loads it again.",
        ["entry", "workers"],
    ),
    "unload_model": ("Let a model's calls end, then unload it from all workers.", ["name", "version"]),
    "reload_model": ("Load a model again on every worker that hosts it.", ["name", "version"]),
    "cancel_load": ("Cancel the load in progress, and unload the model where it is new.", []),
    "route_model": ("Distribute calls that name no version over versions, by weight.", ["name", "weights"]),
}
