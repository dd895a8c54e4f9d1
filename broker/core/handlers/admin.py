"""The administrators' messages: procedures that change which models are hosted, at a socket of their own.

The socket speaks ZeroRPC. A change takes as long as the models take to load and the plan to be saved, so its answer
comes later; until then the administrator gets heartbeats.
"""

from collections.abc import Callable, Sequence
from typing import Any

from broker.core.deployment.checks import checked_entry, checked_patterns, checked_weights
from broker.core.deployment.deployment import Deployment
from broker.core.deployment.unloading import Answer
from broker.core.errors import ProcedureError
from broker.core.introspection import builtins
from broker.core.introspection.view import View
from broker.core.state.access import Access
from broker.core.state.outbox import Outbox
from broker.core.state.procedures import Procedure
from broker.core.state.registry import Registry
from cluster.wire import events
from cluster.wire.arguments import BadArgumentsError, read_arguments
from cluster.wire.events import ClientEvent

HEARTBEAT_INTERVAL_S = 3.0
"""Seconds between two heartbeats to an administrator who waits for an answer."""

MAX_ARGUMENTS_BYTES = 64 * 1024
"""Limit on the arguments of a procedure, in bytes."""

_CHANGES = frozenset(("load_model", "unload_model", "reload_model", "route_model"))
"""The procedures that change the deployment plan. Each is answered when the plan is saved; the others never wait."""

_NO_ID = bytes(8)


class AdminHandler:
    """Handles the messages from the administrators' socket."""

    def __init__(self, deployment: Deployment, outbox: Outbox, access: Access) -> None:
        self._deployment = deployment
        self._access = access
        self._outbox = outbox
        self._open: dict[tuple[bytes, bytes], ClientEvent] = {}  # by identity and message id
        # Answers that wait until the plan is saved: the number of its changes, the key in `_open`, the event.
        self._held: list[tuple[int, tuple[bytes, bytes], bytes]] = []
        self._heartbeats_sent_s = float("-inf")
        self._procedures: dict[str, Callable[..., None]] = {
            "list_models": self._list_models,
            "list_clients": self._list_clients,
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

    def plan_saved(self, changes: int) -> None:
        """Send the answers that have waited until the plan with so many changes was saved."""
        due = [(key, reply) for number, key, reply in self._held if number <= changes]
        self._held = [held for held in self._held if held[0] > changes]
        for key, reply in due:
            self._answer(key, reply)

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
            if isinstance(value, ProcedureError):
                body = events.encode_error_body(event.version, value.name, value.text)
            else:
                body = events.encode_ok_body(value)
            reply = events.encode_reply(event.message_id, _NO_ID, body)
            if event.name in _CHANGES and self._deployment.plan.is_unsaved:
                self._held.append((self._deployment.plan.changes, (identity, event.message_id), reply))
            else:
                self._answer((identity, event.message_id), reply)

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
                answer(builtins.answer(View(self._registry), procedure.name, args))
        except ProcedureError as error:
            answer(error)

    def _answer(self, key: tuple[bytes, bytes], reply: bytes) -> None:
        if self._open.pop(key, None) is not None:
            identity, _ = key
            self._outbox.to_admin(identity, reply)

    # -- the procedures -------------------------------------------------------------------------------------------

    def _list_models(self, answer: Answer) -> None:
        answer(self._deployment.list_models())

    def _list_clients(self, answer: Answer) -> None:
        answer(self._access.list_clients())

    def _load_model(self, answer: Answer, entry: object, workers: object) -> None:
        self._deployment.load(checked_entry(entry), checked_patterns(workers), answer)

    def _unload_model(self, answer: Answer, name: object, version: object) -> None:
        self._deployment.unload(self._deployment.find(*_strings(name=name, version=version)), answer)

    def _reload_model(self, answer: Answer, name: object, version: object) -> None:
        self._deployment.reload(self._deployment.find(*_strings(name=name, version=version)), answer)

    def _cancel_load(self, answer: Answer) -> None:
        answer(self._deployment.cancel())

    def _route_model(self, answer: Answer, name: object, weights: object) -> None:
        (name,) = _strings(name=name)
        self._deployment.route(name, checked_weights(weights))
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


_DESCRIPTIONS: dict[str, tuple[str, list[str]]] = {
    "list_models": ("Return the model versions, their workers, and their shares of the calls.", []),
    "list_clients": (
        "Return the clients by the names of their keys: open calls, requests, and what they may call.",
        [],
    ),
    "load_model": (
        "Load a model on the workers that match, or on all; a worker that hosts it loads it again.",
        ["entry", "workers"],
    ),
    "unload_model": ("Let a model's calls end, then unload it from all workers.", ["name", "version"]),
    "reload_model": ("Load a model again on every worker that hosts it.", ["name", "version"]),
    "cancel_load": ("Cancel the load in progress, and unload the model where it is new.", []),
    "route_model": ("Distribute calls that name no version over versions, by weight.", ["name", "weights"]),
}
