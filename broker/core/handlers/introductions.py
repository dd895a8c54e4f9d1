"""Introductions: the broker asks a stock server that has connected for its name and its methods."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from broker.core.state.conversations import Conversations
from broker.core.state.outbox import Outbox
from broker.core.state.services import Method
from cluster.wire import events, protocol
from cluster.wire.arguments import BadArgumentsError, read_arguments
from cluster.wire.methods import (
    MAX_DOC_BYTES,
    MAX_DOCS_LENGTH,
    MAX_INSPECTION_BYTES,
    MAX_LIST_BYTES,
    MAX_NAME_BYTES,
    MethodsError,
    read_doc,
    read_inspection,
    read_method_names,
    read_service_name,
)
from cluster.wire.server_events import ServerEvent

ANSWER_TIMEOUT_S = 10.0
"""How long a server may take to describe itself, in seconds. Then the broker asks again: it may still be starting."""

DOCS_AT_ONCE = 50
"""Methods whose docstrings the broker asks for at one time."""

_QUESTION_BYTE = 0x80  # begins the numbers of the broker's own questions; calls count from 1
_LAST = (events.OK, events.ERR)

_ERROR = object()
"""Stands for an answer that is an error."""


@dataclass
class Introduction:
    """What a server has said of itself so far.

    Attributes:
        identity: the server's.
        asked_s: monotonic time of the first question.
        is_again: whether it was asked before and has not answered in time.
        service: the name of its service; None before it is known.
        names: the names of its methods; None before they are known.
        docs: docstrings by method.
        args: parameters by method.
        unusable: how many methods cannot be called through the broker because of their names.
        is_inspected: whether it has answered `_zerorpc_inspect`, which says everything; None before its answer.
        without_doc: if it has not, the methods whose docstrings are still to be asked for; None before that begins.
        open: numbers of the questions that it has not answered.
        objection: what is wrong with what it has said; empty if nothing is.
    """

    identity: bytes
    asked_s: float
    is_again: bool = False
    service: str | None = None
    names: list[str] | None = None
    docs: dict[str, str] = field(default_factory=dict)
    args: dict[str, list[str]] = field(default_factory=dict)
    unusable: int = 0
    is_inspected: bool | None = None
    without_doc: deque[str] | None = None
    open: set[bytes] = field(default_factory=set)
    objection: str = ""

    @property
    def is_usable(self) -> bool:
        """Whether the name and the methods are known."""
        return self.service is not None and self.names is not None

    @property
    def is_complete(self) -> bool:
        """Whether everything has been said."""
        return self.is_usable and (self.is_inspected is True or (self.without_doc is not None and not self.open))

    def methods(self) -> list[Method]:
        """Return the methods. Beyond `MAX_DOCS_LENGTH`, they have no docstrings."""
        methods = []
        left = MAX_DOCS_LENGTH
        for name in self.names or ():
            doc = self.docs.get(name, "")
            left -= len(doc)
            methods.append(Method(name, doc if left >= 0 else "", self.args.get(name, [])))
        return methods


class _Question(NamedTuple):
    """What a server was asked: by which introduction, what takes the value of the answer, and how long that may be."""

    asked_by: Introduction
    answered: Callable[[object], None]
    most_bytes: int


class Introductions:
    """Asks servers for their methods.

    Python's server answers `_zerorpc_inspect` up to Python 3.10, and `_zerorpc_list`, `_zerorpc_name` and
    `_zerorpc_help` on every version. Node's answers `_zerorpc_inspect` alone, and ignores the others. So all are asked.
    """

    def __init__(self, conversations: Conversations, outbox: Outbox, done: Callable[[Introduction, float], None]):
        """Build.

        Args:
            conversations: takes the questions.
            outbox: takes log lines.
            done: is called when a server has described itself, or has said what cannot be used (`objection`), with
                monotonic seconds.
        """
        self._conversations = conversations
        self._outbox = outbox
        self._done = done
        self._under_way: dict[bytes, Introduction] = {}
        self._questions: dict[bytes, _Question] = {}  # by number
        self._pings: dict[bytes, bytes] = {}  # numbers of the pings that are not answered yet, by identity
        self._last_number = 0

    def begin(self, identity: bytes, now_s: float) -> None:
        """Ask a server that has connected."""
        self._begin(Introduction(identity, now_s))

    def _begin(self, one: Introduction) -> None:
        former = self._under_way.get(one.identity)
        if former is not None:
            self._end(former)
        self._under_way[one.identity] = one
        self._ask_for(one, partial(self._inspected, one), MAX_INSPECTION_BYTES, "_zerorpc_inspect")
        self._ask_for(one, partial(self._named, one), MAX_NAME_BYTES, "_zerorpc_name")
        self._ask_for(one, partial(self._listed, one), MAX_LIST_BYTES, "_zerorpc_list")

    def ping(self, identity: bytes) -> None:
        """Ask a server whether its loop turns; `take_pong` says when it has answered."""
        self._pings[identity] = self._ask(identity, "_zerorpc_ping")

    def lost(self, identity: bytes) -> None:
        """Forget what a server was asked, which has gone."""
        self._pings.pop(identity, None)
        one = self._under_way.get(identity)
        if one is not None:
            self._end(one)

    def _end(self, one: Introduction) -> None:
        """Forget the questions of an introduction."""
        del self._under_way[one.identity]
        for number in one.open:
            del self._questions[number]

    def check(self, now_s: float) -> None:
        """Ask the servers anew that have not answered in time; what the others have said is enough."""
        for one in [one for one in self._under_way.values() if now_s - one.asked_s >= ANSWER_TIMEOUT_S]:
            self._end(one)
            if one.is_usable:
                self._done(one, now_s)
                continue
            if not one.is_again:
                self._outbox.note(
                    f"a ZeroRPC server has connected and does not say its methods within {ANSWER_TIMEOUT_S:g} s; "
                    "the broker asks it again until it does"
                )
            self._begin(Introduction(one.identity, now_s, is_again=True))

    # -- answers --------------------------------------------------------------------------------------------------

    @staticmethod
    def is_question(number: bytes) -> bool:
        """Whether a number is that of a question of the broker's own, whoever was asked."""
        return bool(number) and bool(number[0] & _QUESTION_BYTE)

    def take_pong(self, identity: bytes, number: bytes, event: ServerEvent) -> bool:
        """Take an answer to a ping, whatever it says; return False if it is none of this server's."""
        if event.name not in _LAST or self._pings.get(identity) != number:
            return False
        del self._pings[identity]
        return True

    def take(self, identity: bytes, number: bytes, event: ServerEvent, payload: bytes, now_s: float) -> None:
        """Take the answer to a question. One that nobody has asked, or needs any more, does nothing."""
        question = self._questions.get(number)
        if question is None or question.asked_by.identity != identity or event.name not in _LAST:
            return  # a stream is no answer to these questions
        one = question.asked_by
        del self._questions[number]
        one.open.discard(number)
        try:
            question.answered(_value(payload, event, question.most_bytes))
        except MethodsError as error:
            one.objection = str(error)
        self._ask_for_docs(one)
        if one.objection or one.is_complete:
            self._end(one)  # what is still open is not needed any more
            self._done(one, now_s)

    def _inspected(self, one: Introduction, value: object) -> None:
        one.is_inspected = value is not _ERROR
        if one.is_inspected:
            one.service, described, one.unusable = read_inspection(value)
            one.names = list(described)
            one.docs = {name: doc for name, (doc, _) in described.items()}
            one.args = {name: args for name, (_, args) in described.items()}

    def _named(self, one: Introduction, value: object) -> None:
        if value is not _ERROR:
            one.service = read_service_name(value)

    def _listed(self, one: Introduction, value: object) -> None:
        if value is not _ERROR:
            one.names, one.unusable = read_method_names(value)

    def _ask_for_docs(self, one: Introduction) -> None:
        """Ask for more docstrings, if the server's inspection has failed and its methods are known."""
        if one.is_inspected is not False or one.names is None:
            return
        if one.without_doc is None:
            one.without_doc = deque(one.names)
        while one.without_doc and len(one.open) < DOCS_AT_ONCE:
            name = one.without_doc.popleft()
            self._ask_for(one, partial(self._documented, one, name), MAX_DOC_BYTES, "_zerorpc_help", name)

    def _documented(self, one: Introduction, name: str, value: object) -> None:
        one.docs[name] = read_doc(value)

    # -- questions ------------------------------------------------------------------------------------------------

    def _ask_for(
        self, one: Introduction, answered: Callable[[object], None], most_bytes: int, name: str, *args: object
    ) -> None:
        number = self._ask(one.identity, name, *args)
        self._questions[number] = _Question(one, answered, most_bytes)
        one.open.add(number)

    def _ask(self, identity: bytes, name: str, *args: object) -> bytes:
        self._last_number += 1
        number = bytes((_QUESTION_BYTE,)) + self._last_number.to_bytes(protocol.NUMBER_BYTES - 1, "big")
        self._conversations.ask(identity, number, name, *args)
        return number


def _value(payload: bytes, event: ServerEvent, most_bytes: int) -> object:
    """Decode the answer to a question; `_ERROR` if it is an error.

    Raises:
        MethodsError: if it cannot be decoded.
    """
    if event.name == events.ERR:
        return _ERROR
    size = len(payload) - event.args_at
    if size > most_bytes:
        raise MethodsError(f"an answer about its methods has {size} bytes; at most {most_bytes} are read")
    try:
        arguments = read_arguments(payload, event.args_at)
    except BadArgumentsError as error:
        raise MethodsError(str(error)) from error
    if len(arguments) != 1:
        raise MethodsError(f"an OK should have one value, not {len(arguments)}")
    return arguments[0]
