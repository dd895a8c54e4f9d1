"""The table of faults: what must happen, which tests show it, and what they measured. Part of docs/reliability.md.

make test-faults ARGS=--figures=figures.jsonl     (as often as you like)
python -m tests.faults.table figures.jsonl        (writes the tables into the document)
"""

import ast
import json
import re
import statistics
import sys
from collections import defaultdict
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
DOCUMENT = TESTS.parent / "docs" / "reliability.md"

ROWS = {
    1: ("a worker is killed with predictions in flight", "another answers them; `WorkerLost` in 0.5 s if not allowed"),
    2: ("a worker is killed in mid-stream", "the items so far, then one error, never the end of the stream"),
    3: ("a worker is frozen", "given up in 5 s; comes back by itself; its late answers are dropped"),
    4: ("a call kills whatever worker gets it", "`WorkerLost` after the second death; the others serve"),
    5: ("a prediction hangs", "`DeadlineExceeded`; that worker is replaced; the others serve"),
    6: ("a prediction holds the interpreter's lock for 20 s", "it succeeds; nobody is given up"),
    7: ("a model raises, exits, returns what cannot be sent", "an error with its name; the worker stays"),
    8: ("one row of a batch is invalid", "its caller alone gets the error"),
    9: ("a worker loads its models for a minute", "it is not ready, and says so; the others serve"),
    10: ("a worker dies at every start", "later and later starts; `/readyz` names its model; `NoWorkers`"),
    11: ("one worker is 20 times slower", "it gets less; the others' calls are as fast as before"),
    12: ("the broker is killed and started again", "workers are back in 5 s; clients just call again"),
    13: (
        "broker, worker or supervisord get SIGTERM",
        "what is in flight ends; new calls get `Draining`; a second ends it",
    ),
    14: ("the broker is frozen for 6 s", "nobody is given up for it"),
    15: ("a worker's network is cut, and heals", "as a frozen one; nothing is answered twice"),
    16: ("200 ms ± 100 ms of delay, 1 % loss", "nobody is given up"),
    17: ("a client vanishes, or gives its call up", "what it had waiting is dropped, streams stop, in 15 s"),
    18: ("a connection says nothing", "it is closed after 5 s"),
    19: ("a stream is read slowly, or not", "at most 100 items are made ahead; others are unaffected"),
    20: ("a client floods", "`ServerBusy` beyond its share; others wait one turn more"),
    21: ("a client never reads", "it is dropped when what waits for it is too much; others are unaffected"),
    22: ("2,000 clients, 10,000 waiting calls", "all are answered, at the same cost for each"),
    23: ("every kind of heartbeat, every protocol version", "served"),
    24: ("random, empty, truncated bytes", "dropped and counted"),
    25: ("no event at all: an int, nil, two elements", "dropped and counted"),
    26: ("no `message_id`, or an absurd one", "dropped and counted"),
    27: ("`response_to` something unknown, or another's", "dropped and counted; nobody else notices"),
    28: ("10,000 unasked events on an open call", "dropped and counted; the call completes"),
    29: ("one `message_id` twice", "one client: the second is dropped; two clients: both are answered"),
    30: ("unknown procedures, attributes, dunders", "`NameError`; no worker sees it"),
    31: ("no name, no arguments, too many", "`BadRequest`"),
    32: ("absurd lengths and depths", "an error; the broker's memory stays"),
    33: ("17 MiB; 65 MiB", "`MessageTooLarge`; disconnected"),
    34: ("odd msgpack: integer keys, extensions, bad UTF-8", "an answer, never silence"),
    35: ("NaN, infinities, -0.0, 2^63", "bit for bit what the model says"),
    36: ("absurd announcements of slots", "clamped or dropped"),
    37: ("a claim to another's routing id", "refused; the other keeps its replies"),
    38: ("the wrong protocol at either door", "dropped and counted"),
    39: ("wrong settings", "exit code 2, one sentence, no restarts"),
    40: ("a rolling restart under load", "no call lost in 10,000"),
    41: ("ten times the capacity for a minute", "as much goodput as ever; refused at once; memory flat"),
    42: ("the wall clock jumps by an hour, back and ahead", "nothing"),
    43: ("nobody reads the log", "serving goes on, and stopping works"),
    44: ("scrapers that hurry, or hang", "calls are as fast as ever"),
}
"""By number: the fault, and what it must lead to. (8 is about batches, which there are none of yet.)"""


def tests_by_row() -> dict[int, list[str]]:
    """The tests that say they show a row, by `fault` marks."""
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


def put(document: str, name: str, table: str) -> str:
    """The document with another table between its marks of that name."""
    begin, end = f"<!-- {name}: made by tests/faults/table.py -->\n", f"<!-- end of {name} -->"
    before, _, rest = document.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}{table}\n{end}{after}"


def main(files: list[str]) -> None:
    """Write the tables into the document; the figures only if there are any."""
    document = put(DOCUMENT.read_text(), "faults", faults_table())
    measured = [json.loads(line) for file in files for line in Path(file).read_text().splitlines()]
    if measured:
        document = put(document, "figures", figures_table(measured))
    DOCUMENT.write_text(document)


if __name__ == "__main__":
    main(sys.argv[1:])
