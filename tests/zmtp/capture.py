"""Writes the transcripts of `test_known_answers_of_libzmq`: connections of our CURVE to libzmq's, byte by byte.

Run `python -m tests.zmtp.capture` to write them anew. The keys are those of the test; libzmq draws its own random
numbers.
"""

import json
import socket
from typing import Any

import zmq

from tests.zmtp.test_curve import CLIENT, SERVER, TRANSCRIPTS, client_end, event, libzmq, server_end, taken
from zmtp import Session, curve

THERE, BACK = [b"", b"to libzmq"], [b"", b"from libzmq" * 30]


def capture(name: str) -> dict[str, Any]:
    """Connect one end to libzmq's other end; return what was drawn, sent and received."""
    drawn: list[list[str]] = []
    module: Any = curve
    random, key_pair = module.randombytes, module.crypto_box_keypair

    def note_random(size: int) -> bytes:
        value: bytes = random(size)
        drawn.append([value.hex()])
        return value

    def note_key_pair() -> tuple[bytes, bytes]:
        public, secret = key_pair()
        drawn.append([public.hex(), secret.hex()])
        return public, secret

    module.randombytes, module.crypto_box_keypair = note_random, note_key_pair
    try:
        return {"drawn": drawn, **_converse(name)}
    finally:
        module.randombytes, module.crypto_box_keypair = random, key_pair


def _converse(name: str) -> dict[str, Any]:
    steps: list[dict[str, Any]] = []
    received: list[list[bytes]] = []
    with zmq.Context() as context, socket.create_server(("127.0.0.1", 0)) as listener:
        if name == "server":
            session = Session(b"ROUTER", (b"DEALER",), mechanism=server_end())
            peer = libzmq(context, zmq.DEALER, CLIENT, SERVER.public)
            peer.connect(f"tcp://127.0.0.1:{listener.getsockname()[1]}")
            connection, _ = listener.accept()
        else:
            session = Session(b"DEALER", (b"ROUTER", b"DEALER"), mechanism=client_end())
            peer = libzmq(context, zmq.DEALER, SERVER)
            connection = socket.create_connection(("127.0.0.1", peer.bind_to_random_port("tcp://127.0.0.1")))

        def send(data: bytes) -> None:
            connection.sendall(data)
            steps.append({"to_libzmq": data.hex()})

        send(taken(session))
        while not received:
            data = connection.recv(4096)
            steps.append({"from_libzmq": data.hex()})
            received += session.receive_data(data)
            if session.to_send:
                send(taken(session))
            if session.is_ready and not received:
                peer.send_multipart(BACK)
        steps.append({"message": [frame.hex() for frame in THERE]})
        send(event(session, *THERE))
        assert peer.recv_multipart() == THERE
        connection.close()
        peer.close()
    return {"steps": steps, "received": [[frame.hex() for frame in frames] for frames in received]}


if __name__ == "__main__":
    TRANSCRIPTS.mkdir(exist_ok=True)
    for end in ("server", "client"):
        (TRANSCRIPTS / f"{end}.json").write_text(json.dumps(capture(end), indent=1) + "\n")
