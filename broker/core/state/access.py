"""Who may call and host what: rules, the clients that they apply to, and what those clients have open.

A client is known by its name: that of its key, or `ANONYMOUS` without keys. All connections of a name share an account.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import translate

from broker.core.state.procedures import Procedure

ANONYMOUS = "anonymous"
"""The name of clients without a key, and of those whose key is accepted without being listed."""

OTHER = "other"
"""The name under which the metrics count clients that have no name of their own there."""

MOST_NAMED = 200
"""Clients that the metrics name; further ones are counted as `OTHER`."""

_MOST_KNOWN = 10_000
"""Answers about procedures that patterns remember; forgotten models must not take memory for ever."""

_OF_A_MODEL = r"(_v\d+_\d+)?_predict(_batch|_stream)?"
"""What follows the qualified name in the procedures of a model."""


class Patterns:
    """Names of models and procedures, with `*`, `?` and `[...]` as in file names."""

    __slots__ = ("_known", "_names", "_possible", "texts")

    def __init__(self, texts: Iterable[str]) -> None:
        self.texts = tuple(texts)
        self._names = [re.compile(translate(text)) for text in self.texts]
        # A name that is no procedure's now is allowed if it could be one of an allowed model.
        self._possible = [re.compile(f"(?:{translate(text)[:-2]}){_OF_A_MODEL}\\Z") for text in self.texts]
        self._known: dict[tuple[str, str], bool] = {}

    def match(self, name: str) -> bool:
        """Whether one of the patterns is for this name."""
        return any(pattern.match(name) for pattern in self._names)

    def permit(self, procedure: Procedure) -> bool:
        """Whether one is for the procedure or for its model; the broker's own procedures are for everyone."""
        if procedure.owner is None:
            return True
        key = procedure.name, procedure.owner
        permitted = self._known.get(key)
        if permitted is None:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            permitted = self._known[key] = self.match(procedure.name) or self.match(procedure.owner)
        return permitted

    def permit_unknown(self, name: str) -> bool:
        """Whether one could be for a procedure of this name, if there were one."""
        return self.match(name) or any(pattern.match(name) for pattern in self._possible)


@dataclass(frozen=True)
class ClientRules:
    """What the clients of one name may do.

    Attributes:
        allowed: the models and procedures that they may call; None for all.
        calls: most calls that they may have open at once, over all their connections; None for no limit.
        waiting_calls: most calls that each of their connections may have in the queue of a model; None for the limit of
            all clients.
    """

    allowed: Patterns | None = None
    calls: int | None = None
    waiting_calls: int | None = None


@dataclass(frozen=True)
class AccessRules:
    """The content of the access file.

    Attributes:
        clients: rules by the name of a client.
        default: rules of all other clients.
        workers: the models that the workers of a name may host; all for names that are not in it.
    """

    clients: Mapping[str, ClientRules] = field(default_factory=dict)
    default: ClientRules = ClientRules()
    workers: Mapping[str, Patterns] = field(default_factory=dict)


class Account:
    """The clients of one name, over all their connections.

    Attributes:
        name: theirs.
        label: what the metrics call them: the name, or `OTHER`.
        rules: what they may do.
        open_calls: their open calls.
        requests: the calls that they have made, whatever became of them.
    """

    __slots__ = ("label", "name", "open_calls", "requests", "rules")

    def __init__(self, name: str, label: str, rules: ClientRules) -> None:
        self.name = name
        self.label = label
        self.rules = rules
        self.open_calls = 0
        self.requests = 0


class Access:
    """The rules in force, and the accounts of all clients."""

    def __init__(self, rules: AccessRules | None = None) -> None:
        self._rules = rules or AccessRules()
        self.accounts: dict[str, Account] = {}
        self._requests_of_others = 0

    def account(self, name: str) -> Account:
        """Return the account of a name, which may be new."""
        account = self.accounts.get(name)
        if account is None:
            label = name if len(self.accounts) < MOST_NAMED else OTHER
            account = self.accounts[name] = Account(name, label, self._rules_of(name))
        return account

    def _rules_of(self, name: str) -> ClientRules:
        return self._rules.clients.get(name, self._rules.default)

    def change(self, rules: AccessRules) -> None:
        """Put other rules in force, for open connections too."""
        self._rules = rules
        for account in self.accounts.values():
            account.rules = self._rules_of(account.name)

    def forget(self, known: Collection[str]) -> None:
        """Remove the accounts of names that are not known any more and have no open calls."""
        for name, account in list(self.accounts.items()):
            if name not in known and name != ANONYMOUS and not account.open_calls:
                self._requests_of_others += account.requests
                del self.accounts[name]

    def hosting_objection(self, name: str, models: Iterable[str]) -> str | None:
        """Return why a worker may not host these models, for its log; None if it may.

        Args:
            name: the name of the worker's key; empty without keys.
            models: their qualified names.
        """
        patterns = self._rules.workers.get(name)
        if patterns is None:
            return None
        refused = next((model for model in models if not patterns.match(model)), None)
        if refused is None:
            return None
        return f"the key {name!r} may not host {refused!r}; it may host {', '.join(patterns.texts) or 'nothing'}"

    def list_clients(self) -> list[dict[str, object]]:
        """Return the clients that have called, by name: open calls, requests, and what they may call."""
        rows: list[dict[str, object]] = []
        for account in sorted(self.accounts.values(), key=lambda one: one.name):
            allowed, most = account.rules.allowed, account.rules.calls
            rows.append(
                {
                    "client": account.name,
                    "open_calls": account.open_calls,
                    "most_calls": most,
                    "requests": account.requests,
                    "allowed": None if allowed is None else list(allowed.texts),
                }
            )
        return rows

    def requests(self) -> dict[str, int]:
        """Return the calls by client: a bounded number of names, and `OTHER`."""
        counts = {OTHER: self._requests_of_others}
        for account in self.accounts.values():
            counts[account.label] = counts.get(account.label, 0) + account.requests
        return counts
