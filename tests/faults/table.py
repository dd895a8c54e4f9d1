"""The generated parts of docs/reliability.md: the table of faults, what the tests measured, and how much they cover.

make test-faults ARGS=--figures=figures.jsonl     (adds figures to the file; run it as often as you like)
python -m tests.faults.table figures.jsonl        (writes the tables into the document)
"""

import ast
import json
import re
import statistics
import sys
from collections import defaultdict
from pathlib import Path

from tests.simulation import mutants, test_leaks, test_simulation
from tests.simulation.mutant_table import MUTANTS

TESTS = Path(__file__).resolve().parents[1]
DOCUMENT = TESTS.parent / "docs" / "reliability.md"

ROWS = {
    1: (
        "a worker is killed with predictions in flight",
        "another worker answers them; `WorkerLost` within 0.5 s if a retry is not allowed",
    ),
    2: ("a worker is killed in mid-stream", "the items so far, then one error, never the end of the stream"),
    3: (
        "a worker is frozen",
        "the broker drops it within 5 s and ignores its late answers; the worker reconnects by itself",
    ),
    4: ("a call kills every worker that gets it", "`WorkerLost` after the second death; the other workers serve"),
    5: (
        "a prediction hangs",
        "`DeadlineExceeded`; its worker ends and is started again; the other workers serve",
    ),
    6: ("a prediction holds the interpreter's lock for 20 s", "it succeeds; its worker is not dropped"),
    7: (
        "a model raises, exits, or returns a value that cannot be sent",
        "the caller gets an error with the exception's name; the worker stays",
    ),
    8: ("one row of a batch is invalid", "only its caller gets the error"),
    9: ("a worker loads its models for long", "`/readyz` of the worker is 503; the other workers serve"),
    10: (
        "a worker dies at every start",
        "supervisor waits longer before each start; `/readyz` names its model; calls get `NoWorkers`",
    ),
    11: ("one worker is 20 times slower", "it gets fewer calls; the calls of the others are as fast as before"),
    12: (
        "the broker is killed and started again",
        "the workers reconnect within 5 s; the next call of the same client works",
    ),
    13: (
        "broker, worker or supervisord get SIGTERM",
        "calls in flight finish; new calls get `Draining`; a second SIGTERM ends the process at once",
    ),
    14: ("the broker is frozen for 6 s", "the broker drops no worker for its own pause"),
    15: ("a worker's network is cut, and heals", "as for a frozen worker; no call is answered twice"),
    16: ("200 ms ± 100 ms of delay, 1 % loss", "no worker and no client is dropped"),
    17: (
        "a client vanishes, or abandons its call",
        "within 15 s its waiting calls are dropped and its streams stop",
    ),
    18: ("a connection sends nothing", "it is closed after 5 s"),
    19: (
        "a client reads a stream slowly, or stops reading it",
        "the worker makes at most 100 items ahead; other calls are not affected",
    ),
    20: ("a client floods the broker", "`ServerBusy` beyond its share; other clients wait one turn longer"),
    21: (
        "a client never reads",
        "the broker drops it when its unread messages exceed a limit; other calls are not affected",
    ),
    22: ("2,000 clients, 10,000 waiting calls", "all are answered, at the same cost for each call"),
    23: ("every heartbeat setting, every protocol version", "every call is served"),
    24: ("random, empty or truncated bytes", "dropped and counted"),
    25: ("msgpack that is not an event: an int, nil, two elements", "dropped and counted"),
    26: ("a missing or absurd `message_id`", "dropped and counted"),
    27: ("`response_to` an unknown call, or another client's", "dropped and counted; other clients are not affected"),
    28: ("10,000 unrequested events on an open call", "dropped and counted; the call completes"),
    29: ("one `message_id` twice", "from one client, the second is dropped; from two clients, both are answered"),
    30: ("unknown procedures, attributes, dunders", "`NameError`; no worker gets the call"),
    31: ("no name, no arguments, too many arguments", "`BadRequest`"),
    32: ("absurd lengths and depths", "an error; the broker's memory does not grow"),
    33: ("a call of 17 MiB; one of 65 MiB", "`MessageTooLarge`; the client is disconnected"),
    34: ("unusual msgpack: integer keys, extensions, bad UTF-8", "every call is answered"),
    35: ("NaN, infinities, -0.0, 2^63", "the client gets exactly the bits that the model returns"),
    36: ("absurd announcements of slots", "limited or dropped"),
    37: ("a client claims another client's routing id", "refused; the other client gets all its replies"),
    38: ("the wrong protocol on either socket", "dropped and counted"),
    39: ("wrong settings", "exit code 2 and one sentence; supervisor does not start the process again"),
    40: ("a rolling restart under load", "none of 10,000 calls is lost"),
    41: (
        "ten times the capacity",
        "goodput stays at its peak; refusals come at once; memory does not grow",
    ),
    42: ("the wall clock jumps by an hour, forward and back", "no effect"),
    43: ("the log is not read", "serving goes on, and stopping works"),
    44: ("scrapers ask very often, or hang", "calls are as fast as before"),
    45: ("5,000 clients are connected, and the pages are asked for", "all HTTP pages answer"),
    46: (
        "30 connections send 63 of 64 MiB, and then nothing",
        "the broker keeps at most 512 MiB of incomplete messages, and drops a peer that sends nothing for 10 s",
    ),
    47: ("events that declare nested arrays, or many keys", "they cost no more than their bytes"),
    48: (
        "a client opens all the streams that there may be, and reads none",
        "the last tenth is for clients with few; unread streams end with `DeadlineExceeded` when others wait",
    ),
    49: (
        "a worker describes extreme limits, and leaves",
        "absurd ones are refused with a reason; the others hold for its own calls, and go with it",
    ),
    50: (
        "a service describes itself with code in its texts, names and schemas",
        "the client and the page that are made from it have it as text, or refuse it; nothing of it runs",
    ),
    51: (
        "1,000 models are registered, and scraped; workers leave for good",
        "a scrape stops the loop for a millisecond at a time; models without workers are forgotten after an hour",
    ),
    52: (
        "more clients than the broker has descriptors",
        "they wait; connected clients, workers and HTTP go on; a metric and a log line a minute say so",
    ),
    53: (
        "150 idle HTTP connections, and bodies of 450 MiB",
        "`/healthz` answers; a body over 1 MiB is refused unread; idle connections are closed after 10 s",
    ),
    54: ("names with newlines and escapes", "the worker is refused with a reason; logs have no control characters"),
    55: (
        "12 connections of one host flood the broker",
        "addresses take turns and have equal parts of a full queue, then their connections",
    ),
    56: (
        "calls of 13 MiB from several connections",
        "the calls of another client take less than 0.3 s; large calls leave one of several workers to small ones",
    ),
    57: ("a worker answers with 130 MiB", "`ResultTooLarge`; the client and the worker stay"),
    58: ("a worker registers 1,000 or 5,000 models", "1,000 in slices; 5,000 are refused with a reason"),
    59: (
        "the state file is readable by others, or has what no command accepts",
        "mode 0600; the broker checks it as it checks a command, and sets a wrong one aside",
    ),
    60: (
        "an order to load a model names a module that has none",
        "the worker does not import it, and says from which packages it loads (`WORKER_LOADABLE`)",
    ),
    61: ("good and bad calls take turns at a split", "only accepted calls count for the split"),
    62: (
        "an unforeseen exception anywhere in the broker's core, at a message, a tick, a dispatch or a send",
        "`WorkerError` for the call that it concerns; all tables are made whole again, and the broker serves on",
    ),
    63: (
        "the state file is truncated; the disk is slow or full",
        "the broker sets the file aside and starts; no call waits for the disk; a failure is logged and counted",
    ),
    64: (
        "handshakes and messages of CURVE that are malformed, truncated, repeated, out of turn or forged",
        "their connections end, counted by reason; no other client notices",
    ),
    65: (
        "2,000 connections stop in the middle of the handshake of CURVE",
        "they take a few KiB each, and end after 5 s",
    ),
    66: (
        "a client or a worker without a key, with an unlisted, revoked or wrong key",
        "it is refused, no byte of it is processed, and the log says which of these it is",
    ),
    67: (
        "a stock ZeroRPC server is killed with calls in flight",
        "`WorkerLost` within 0.5 s; a method in `BROKER_RETRY_METHODS` is called again at another server, once",
    ),
    68: ("a stock server is frozen", "the broker drops it within 5 s; it comes back by itself"),
    69: (
        "a stock server computes for 20 s",
        "it is not dropped, and its calls are answered; other servers get the next calls; a call that it drops "
        "itself ends with `WorkerLost`",
    ),
    70: (
        "a hostile ROUTER: an endless list, 10,000 methods, control characters, answers to other ids, silence",
        "it is refused with a reason, or ignored; other callers do not notice",
    ),
}
"""By number: the fault, and what the cluster must do."""


def tests_by_row() -> dict[int, list[str]]:
    """The tests that show each row, by their `fault` marks."""
    found: dict[int, list[str]] = defaultdict(list)
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                for row in _rows_of(node):
                    found[row].append(f"`{path.stem.removeprefix('test_')}`: {_sentence(node.name)}")
    return found


def _rows_of(test: ast.FunctionDef) -> list[int]:
    marks = [
        one for one in test.decorator_list if isinstance(one, ast.Call) and ast.unparse(one.func).endswith(".fault")
    ]
    return [ast.literal_eval(argument) for mark in marks for argument in mark.args]


def _sentence(name: str) -> str:
    return name.removeprefix("test_").replace("_", " ")


def faults_table() -> str:
    """Each fault with the tests that show it."""
    shown = tests_by_row()
    lines = ["| # | fault | leads to | shown by |", "|---|---|---|---|"]
    for row, (fault, leads_to) in ROWS.items():
        lines.append(f"| {row} | {fault} | {leads_to} | {'; '.join(shown[row])} |")
    return "\n".join(lines)


def figures_table(measured: list[dict[str, object]]) -> str:
    """Every figure with its median, lowest and highest value."""
    values: dict[tuple[tuple[int, ...], str, str], list[float]] = defaultdict(list)
    for one in measured:
        rows: tuple[int, ...] = tuple(one["rows"])  # type: ignore[arg-type]
        what = re.sub(r"of \d{3,} calls", "of the calls", str(one["what"]))  # a number that no two runs share
        values[rows, what, str(one["unit"])].append(float(one["value"]))  # type: ignore[arg-type]
    lines = ["| # | figure | median | lowest | highest | runs |", "|---|---|---|---|---|---|"]
    for (rows, what, unit), found in sorted(values.items()):
        shown = (f"{value:.3g} {unit}".strip() for value in (statistics.median(found), min(found), max(found)))
        lines.append(f"| {', '.join(map(str, rows))} | {what} | {' | '.join(shown)} | {len(found)} |")
    return "\n".join(lines)


def counts_table() -> str:
    """How many worlds, steps and mutants the simulation has."""
    worlds, leaks = test_simulation, test_leaks
    rounds = leaks.ROUNDS * leaks.ROUND_S
    rows = [
        ("faults in the table above", len(ROWS), ""),
        ("mutants", len(MUTANTS), f"each runs in up to {mutants.SEEDS} worlds of both kinds"),
        ("worlds with one event at a time", worlds.SEEDS, f"of {worlds.STEPS:,} steps each"),
        ("worlds with one event at a time, from hypothesis", worlds.EXAMPLES, f"of up to {worlds.EXAMPLE_STEPS} steps"),
        ("worlds with concurrent events", worlds.SEEDS, f"of {worlds.SECONDS} simulated seconds each"),
        (
            "calls in the test of leaks",
            rounds * leaks.CALLS_A_SECOND,
            f"over {rounds * leaks.CONNECTIONS_A_SECOND:,} new connections and {rounds * leaks.RESTARTS_A_SECOND:,} "
            f"kills of workers, in {leaks.ROUNDS} equal rounds",
        ),
    ]
    lines = ["| what | number | details |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {what} | {number:,} | {details} |" for what, number, details in rows)])


def put(document: str, name: str, table: str) -> str:
    """Return the document with a new table between the marks of that name."""
    begin, end = f"<!-- {name}: made by tests/faults/table.py -->\n", f"<!-- end of {name} -->"
    if begin not in document or end not in document:
        raise ValueError(f"{DOCUMENT.name} has no marks for the table {name!r}")
    before, _, rest = document.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}{table}\n{end}{after}"


def main(files: list[str]) -> None:
    """Write the tables into the document; the figures only if a file has some."""
    document = put(DOCUMENT.read_text(), "faults", faults_table())
    document = put(document, "simulation", counts_table())
    measured = [json.loads(line) for file in files for line in Path(file).read_text().splitlines()]
    if measured:
        document = put(document, "figures", figures_table(measured))
    DOCUMENT.write_text(document)


if __name__ == "__main__":
    main(sys.argv[1:])
