"""A whole cluster on a simulated network: the real core and codec, and everything around them has a will of its own.

Where `simulation` lets one thing happen at a time and checks it to the letter, here all is under way at once: messages
travel, cross and are held up; workers and clients are killed, frozen and cut off; the broker freezes, drains and
starts again. Whatever happens, what a client sees must be right, and the core's tables must agree.
"""

from collections import Counter
from collections.abc import Callable

from broker.core.core import Core
from broker.core.scheduling.admission import QueueLimits
from broker.core.state import counters
from broker.core.state.access import Patterns
from broker.core.state.services import ServerRules
from cluster.wire import protocol
from tests.simulation import invariants, stock_servers
from tests.simulation.links import Agenda, End, Link
from tests.simulation.peers import TIMEOUT_S, WATCHDOG_S, Client, Worker
from tests.simulation.stock_servers import StockServer
from tests.unit.world import MAX_MESSAGE_BYTES

LIMITS = QueueLimits(
    no_worker_grace_s=10.0,
    queue_timeout_s=30.0,
    queue_calls=40,
    queue_bytes=20_000,
    client_calls=15,
    client_bytes=8_000,
    unread_timeout_s=60.0,
)

SERVER_RULES = ServerRules(stock_servers.SERVER_CALLS, stock_servers.TIMEOUT_S, Patterns([stock_servers.RETRIED]))

MODELS = ("red", "blue")
SERVED = 0.3
"""Share of calls that stock servers answer."""

CLIENT_BACKLOG = 60
CLIENT_SILENCE_S = 8.0
LONGEST_S = 2 * (LIMITS.queue_timeout_s + TIMEOUT_S) + WATCHDOG_S
"""By when any call must have ended: it may wait, run, lose its worker, and do both again."""


class Broker:
    """The process around a core: what `broker.loop` does, without sockets."""

    def __init__(self, agenda: Agenda) -> None:
        self.links: dict[bytes, Link] = {}
        self.is_frozen = False
        self.starts = 0
        self.calls = 0  # first events that this start has taken
        self._agenda = agenda
        self._arrivals: list[Link] = []  # of stock servers
        self._inbox: list[tuple[Link, list[bytes]]] = []
        self._identities = 0
        self._ticked_s = 0.0
        self.core: Core
        self._start()
        agenda.every(0.1, self._tick)

    def _start(self) -> None:
        self.starts += 1
        self.calls = 0
        instance = self.starts.to_bytes(4, "big")
        self.core = Core(max_message_bytes=MAX_MESSAGE_BYTES, limits=LIMITS, servers=SERVER_RULES, instance=instance)

    def connect(self, side: str, peer: End) -> Link:
        """A new connection."""
        self._identities += 1
        silence_s = protocol.HEARTBEAT_TIMEOUT_S if side == "backend" else CLIENT_SILENCE_S
        identity = b"%s-%d" % (side.encode(), self._identities)
        link = Link(self._agenda, self, peer, side=side, identity=identity, silence_s=silence_s)
        self.links[identity] = link
        return link

    def connect_server(self, peer: End) -> Link:
        """A new connection of a stock server, whose handshake says what it is."""
        link = self.connect("backend", peer)
        self._agenda.after(link.latency_s, lambda: self._arrive(link))
        return link

    def _arrive(self, link: Link) -> None:
        if self.links.get(link.identity) is link:
            self._arrivals.append(link)
            if not self.is_frozen:
                self._turn()

    def receive(self, link: Link, frames: list[bytes]) -> None:
        self._inbox.append((link, frames))
        if not self.is_frozen:
            self._turn()

    def disconnected(self, link: Link) -> None:
        raise AssertionError("only peers are told")

    abandoned = disconnected

    def freeze(self, seconds: float) -> None:
        """SIGSTOP, then SIGCONT."""
        self.is_frozen = True
        self._agenda.after(seconds, self._thaw)

    def _thaw(self) -> None:
        self.is_frozen = False
        self._turn()  # the sockets before the timers
        self._tick()

    def restart(self) -> None:
        """SIGKILL, and a new process."""
        self._inbox.clear()
        self._arrivals.clear()
        links, self.links = self.links, {}
        self._start()
        for link in links.values():
            link.break_off()

    def drain(self) -> None:
        """SIGTERM: no new calls, and a new process once those that are open have ended."""
        self.core.drain()
        leaving, until_s = self.core, self._agenda.now_s + 20

        def leave() -> None:
            if self.core is not leaving:
                return  # it was killed meanwhile
            if self.is_frozen or (len(self.core.calls) and self._agenda.now_s < until_s):
                self._agenda.after(0.1, leave)
                return
            self.core.workers.reset_workers()
            self._send()
            self._agenda.after(0.01, self.restart)

        leave()

    def _turn(self) -> None:
        arrivals, self._arrivals = self._arrivals, []
        for link in arrivals:
            if not link.is_broken:
                self.core.server_registrations.joined(link.identity, self._agenda.now_s)
        inbox, self._inbox = self._inbox, []
        for side in ("backend", "frontend"):
            for link, frames in inbox:
                if link.side == side:
                    self._handle(link, frames)
        self._send()

    def _handle(self, link: Link, frames: list[bytes]) -> None:
        if link.side == "backend":
            self.core.from_backend(link.identity, frames, self._agenda.now_s)
            return
        before = sum(self.core.counters.bad_frames.values())
        self.core.clients.message(link.identity, frames, self._agenda.now_s)
        is_later_event = b"response_to" in frames[-1]
        self.calls += sum(self.core.counters.bad_frames.values()) == before and not is_later_event

    def _tick(self) -> None:
        if not self.is_frozen:
            self._ticked_s = self._agenda.now_s
            self.core.tick(self._agenda.now_s)
            self._send()
            broken = [identity for identity, link in self.links.items() if link.is_broken]
            for identity in broken:
                if self.links.pop(identity).side == "backend":
                    self.core.backend_lost(identity, self._agenda.now_s)  # the sockets tell
            self._send()
            self.core.outbox.take_notes()
            self.check()

    def _send(self) -> None:
        now_s = self._agenda.now_s
        self.core.dispatch(now_s)
        to_clients, to_workers = self.core.outbox.take()
        while to_clients or to_workers:
            for identity, frames in to_workers:
                link = self.links.get(identity)
                if link is None or link.is_broken:
                    self.core.backend_lost(identity, now_s)
                else:
                    link.to_peer(frames)
            for identity, event in to_clients:
                link = self.links.get(identity)
                if link is None or link.is_broken:
                    self.core.clients.lost(identity, counters.UNREACHABLE, now_s)
                elif link.unread >= CLIENT_BACKLOG:
                    link.give_up()
                    self.core.clients.lost(identity, counters.STALLED, now_s)
                else:
                    link.to_peer([b"", event])
            self.core.dispatch(now_s)
            to_clients, to_workers = self.core.outbox.take()

    def check(self) -> None:
        """The tables agree, the books balance, and nothing is older than it may be."""
        core = self.core
        invariants.check(core, LIMITS, ticked_s=self._ticked_s)
        ended = invariants.counted(core)
        assert ended + len(core.calls) + invariants.orphans(core) == self.calls, "the books do not balance"


class Network:
    """The world."""

    def __init__(self, seed: int, clients: int = 4, workers: int = 3, servers: int = 3) -> None:
        self.agenda = Agenda(seed)
        self.broker = Broker(self.agenda)
        self._tokens = 0
        self._given: Counter[int] = Counter()
        self._is_quiet = False
        self.clients = [Client(self, f"client-{i}", (1.0, 5.0, 30.0, None)[i % 4]) for i in range(clients)]
        chance = self.agenda.chance
        models = [MODELS, *(chance.choice([MODELS, MODELS[:1], MODELS[1:]]) for _ in range(workers - 1))]
        self.workers = [
            Worker(self, f"worker-{i}", models[i], chance.randint(1, 3), chance.randint(1, 4)) for i in range(workers)
        ]
        methods = stock_servers.METHODS
        self.servers = [StockServer(self, f"server-{i}", methods if i else methods[:2]) for i in range(servers)]

    def connect(self, side: str, peer: End) -> Link:
        """A new connection, as fast or slow as chance will have it."""
        link = self.broker.connect(side, peer)
        if not getattr(self, "_is_quiet", True):
            link.latency_s = self.agenda.chance.choice([0.0005, 0.002, 0.02, 0.2])
        return link

    def connect_server(self, peer: StockServer) -> Link:
        """A new connection of a stock server."""
        link = self.broker.connect_server(peer)
        if not getattr(self, "_is_quiet", True):
            link.latency_s = self.agenda.chance.choice([0.0005, 0.002, 0.02, 0.2])
        return link

    def next_token(self) -> int:
        """Names a call, in the whole world."""
        self._tokens += 1
        return self._tokens

    def note_given(self, token: int, most: int = 2) -> None:
        """A worker was given that call, which may happen so often."""
        self._given[token] += 1
        assert self._given[token] <= most, "a call that must not be tried again is"

    def run(self, seconds: float, calls_a_second: float = 15.0, faults_a_second: float = 0.7) -> None:
        """Let clients call and faults happen for that long."""
        end_s = self.agenda.now_s + seconds

        def again_and_again(rate: float, action: Callable[[], None]) -> None:
            def act() -> None:
                if self.agenda.now_s < end_s:
                    action()
                    self.agenda.after(self.agenda.chance.expovariate(rate), act)

            self.agenda.after(self.agenda.chance.expovariate(rate), act)

        again_and_again(calls_a_second, self._some_call)
        if faults_a_second:
            again_and_again(faults_a_second, self._some_fault)
        self.agenda.run(seconds)

    def heal(self) -> None:
        """No more faults: everything is answered, and nothing is left anywhere."""
        self._is_quiet = True
        for link in list(self.broker.links.values()):
            link.heal()
            link.latency_s = 0.002
        for client in self.clients:
            client.thaw()
        for worker in self.workers:
            worker.thaw()
        for server in self.servers:
            server.thaw()
        self.agenda.run(LONGEST_S + protocol.SILENCE_S + 5)
        for client in self.clients:
            lost = [call for call in client.calls.values() if not (call.ended or call.abandoned or call.dropped)]
            assert not lost, f"never answered: {lost}"
        core = self.broker.core
        self.broker.check()
        assert len(core.calls) == 0
        assert not core.calls.clients
        assert all(not worker.in_flight for worker in core.registry.workers.values())
        assert len(core.registry.workers) == len(self.workers) + len(self.servers), "not every worker has come back"

    @property
    def calls(self) -> int:
        return self._tokens

    @property
    def answered(self) -> int:
        return sum(client.answered for client in self.clients)

    # -- what may happen ------------------------------------------------------------------------------------------

    def _some_call(self) -> None:
        chance = self.agenda.chance
        do = chance.choices(["answer", "raise", "babble", "stream", "die", "hang"], weights=[70, 5, 5, 15, 1, 0.3])[0]
        what = {"do": do, "after_s": chance.choice([0.001, 0.01, 0.1, 1.0]), "items": chance.randrange(20)}
        client = chance.choice(self.clients)
        is_stream = chance.random() < (0.7 if do == "stream" else 0.1)
        procedure = f"{chance.choice(MODELS)}_predict{'_stream' if is_stream else ''}"
        if chance.random() < SERVED:
            procedure = chance.choice(stock_servers.METHODS)
        client.call(procedure, what, chance.choice([None, None, None, 0.5, 5.0]))

    def _some_fault(self) -> None:
        chance = self.agenda.chance
        if not self.broker.links:
            return  # it starts just now
        faults: list[tuple[float, Callable[[], None]]] = [
            (4, lambda: chance.choice(self.workers).kill(chance.choice([0.1, 1.0, 5.0]))),
            (3, lambda: self._freeze(chance.choice(self.workers))),
            (3, lambda: self._cut(chance.choice(self.workers).stay.link)),
            (2, lambda: chance.choice(self.servers).kill(chance.choice([0.1, 1.0, 5.0]))),
            (2, lambda: self._freeze(chance.choice(self.servers))),
            (2, lambda: self._cut(chance.choice(self.servers).link)),
            (3, lambda: chance.choice(self.servers).block(chance.choice([0.5, 3.0, 12.0, 25.0]))),
            (3, lambda: chance.choice(self.workers).drain()),
            (3, lambda: chance.choice(self.clients).vanish()),
            (2, lambda: self._freeze(chance.choice(self.clients))),
            (2, lambda: self._cut(chance.choice(self.clients).link)),
            (3, self._corrupt),
            (3, self._delay),
            (1, lambda: self._hold_broker(chance.choice([0.5, 3.0, 6.0]))),
            (0.2, self._restart_broker),
            (0.2, self._drain_broker),
        ]
        weights = [weight for weight, _ in faults]
        chance.choices([fault for _, fault in faults], weights)[0]()

    def _freeze(self, peer: Client | Worker | StockServer) -> None:
        """A frozen process answers no heartbeat: to the broker it is as good as cut off."""
        if peer.is_frozen:
            return
        seconds = self.agenda.chance.choice([0.5, 2.0, 6.0, 15.0])
        peer.is_frozen = True
        if isinstance(peer, Client):
            peer.disturb(seconds)
            link = peer.link
        else:
            link = peer.link if isinstance(peer, StockServer) else peer.stay.link

        def thaw() -> None:
            link.heal()
            peer.thaw()

        link.cut()
        self.agenda.after(seconds, thaw)

    def _cut(self, link: Link) -> None:
        seconds = self.agenda.chance.choice([0.5, 2.0, 6.0, 15.0])
        for client in self.clients:
            if client.link is link:
                client.disturb(seconds)
        link.cut()
        self.agenda.after(seconds, link.heal)

    def _delay(self) -> None:
        link = self.agenda.chance.choice(list(self.broker.links.values()))
        link.latency_s = self.agenda.chance.choice([0.0005, 0.02, 0.2, 0.5])

    def _corrupt(self) -> None:
        """A stranger, and a peer with a broken memory, send what is nothing."""
        chance = self.agenda.chance
        rubbish = [chance.randbytes(chance.randrange(40)) for _ in range(chance.randrange(4))]
        link = chance.choice(list(self.broker.links.values()))
        if link.side == "backend" and rubbish and rubbish[0] in (protocol.READY, protocol.BYE, protocol.DRAIN):
            return  # that would be a word of the protocol
        link.to_broker([b"", b"\xc1"] if link.side == "frontend" else rubbish)

    def _hold_broker(self, seconds: float) -> None:
        if not self.broker.is_frozen:
            for client in self.clients:
                client.disturb(seconds)
            self.broker.freeze(seconds)

    def _restart_broker(self) -> None:
        if not self.broker.is_frozen:
            self._disturb_all(3)
            self.broker.restart()

    def _drain_broker(self) -> None:
        if not self.broker.is_frozen and not self.broker.core.draining:
            self._disturb_all(25)
            self.broker.drain()

    def _disturb_all(self, seconds: float) -> None:
        for client in self.clients:
            client.disturb(seconds)
