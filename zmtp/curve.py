"""CURVE, the encryption of ZeroMQ: CurveZMQ (https://rfc.zeromq.org/spec/26) as the mechanism of a session.

All cryptography is libsodium's, by PyNaCl. Sizes and names of fields are those of RFC 26; C and S are the long-term
keys of client and server, C' and S' those of one connection, and a small letter is the secret half of a key.

This module needs PyNaCl; no other module of the package does.
"""

from collections.abc import Callable
from typing import NamedTuple, NoReturn

from nacl._sodium import ffi, lib  # type: ignore[import-not-found]
from nacl.bindings import (
    crypto_box_beforenm,
    crypto_box_easy,
    crypto_box_easy_afternm,
    crypto_box_keypair,
    crypto_box_open_easy,
    crypto_box_open_easy_afternm,
    crypto_scalarmult_base,
    crypto_secretbox,
    crypto_secretbox_open,
    randombytes,
    sodium_memcmp,
)
from nacl.exceptions import CryptoError

from zmtp.commands import encode_command
from zmtp.errors import PeerError
from zmtp.frames import COMMAND, LONG, MORE
from zmtp.greeting import Greeting

KEY_BYTES = 32

HANDSHAKE = "curve_handshake"
"""Reason of a `PeerError`: a command of the handshake is malformed, forged, replayed or out of turn."""

SERVER_KEY = "curve_server_key"
"""Reason of a `PeerError`: the client knows another key of the server."""

CLIENT_KEY = "curve_client_key"
"""Reason of a `PeerError`: the client's key is none that the server accepts."""

MESSAGE = "curve_message"
"""Reason of a `PeerError`: a message is not authentic, or its nonce is not higher than the last."""

_VERSION = b"\x01\x00"
_HELLO_BYTES = 194  # without the name of the command, as all sizes here
_WELCOME_BYTES = 160
_COOKIE_BYTES = 96
_VOUCH_BYTES = 96
_LONG_NONCE_BYTES = 16  # random
_SHORT_NONCE_BYTES = 8  # counted
_MAC_BYTES = 16
_LEAST_INITIATE_BYTES = _COOKIE_BYTES + _SHORT_NONCE_BYTES + _MAC_BYTES + KEY_BYTES + _VOUCH_BYTES
_LEAST_READY_BYTES = _SHORT_NONCE_BYTES + _MAC_BYTES
_MESSAGE_NAME = b"\x07MESSAGE"
_NONCE_AT = len(_MESSAGE_NAME)
_BOX_AT = _NONCE_AT + _SHORT_NONCE_BYTES
_LONG_BYTES = 256 - _BOX_AT - _MAC_BYTES
"""From this many plain bytes on, with their flags, the frame of a MESSAGE has a long size."""

_SHORT_HEADERS = [bytes((0, _BOX_AT + _MAC_BYTES + size)) + _MESSAGE_NAME for size in range(_LONG_BYTES)]
"""What stands before the nonce of a MESSAGE, by the number of plain bytes."""

# For every frame, the C layer of PyNaCl itself: its Python layer above costs as much as the encryption of a small
# frame. The lengths of keys and nonces, which that layer checks, are those of this module.
_BYTES = ffi.typeof("unsigned char[]")
_allocate = ffi.new_allocator(should_clear_after_alloc=False)
_buffer = ffi.buffer
_seal, _open = lib.crypto_box_easy_afternm, lib.crypto_box_open_easy_afternm
_INNER_FLAGS = {
    flags | size: inner for size in (0, LONG) for flags, inner in ((0, b"\0"), (MORE, b"\1"), (COMMAND, b"\2"))
}
_OUTER_FLAGS = (0, MORE, COMMAND)  # by the flags byte in the box; libzmq sets no other

NameOf = Callable[[bytes], str | None]
"""Returns the name of the peer with a long-term public key; None if the key is not accepted."""


def _long_header(size: int) -> bytes:
    return bytes((LONG,)) + (_BOX_AT + _MAC_BYTES + size).to_bytes(8, "big") + _MESSAGE_NAME


class CurveKeys(NamedTuple):
    """The long-term keys of one end, 32 bytes each."""

    public: bytes
    secret: bytes

    @classmethod
    def of(cls, secret: bytes) -> "CurveKeys":
        """Return the pair that belongs to a secret key."""
        return cls(crypto_scalarmult_base(secret), secret)


class _Curve:
    """What both ends do alike: frames after the handshake."""

    name = b"CURVE"
    wraps = True
    as_server: bool
    _own_prefix: bytes
    _peer_prefix: bytes

    def __init__(self, keys: CurveKeys) -> None:
        self.peer_metadata: bytes | None = None
        self.peer_name = ""
        self.peer_key = b""
        self._keys = keys
        self._metadata = b""
        self._expects = b""  # name of the peer's next command
        self._shared = b""  # the key that C' and S' make
        self._own_nonce = 0
        self._peer_nonce = bytes(_SHORT_NONCE_BYTES)

    def begin(self, peer: Greeting, metadata: bytes) -> list[bytes]:
        """Begin the handshake.

        Raises:
            PeerError: if both ends are servers. (libzmq's server does not say that it is one, so two clients notice
                each other only by their HELLOs.)
        """
        if peer.as_server and self.as_server:
            raise PeerError("both ends are servers of CURVE", HANDSHAKE)
        self._metadata = metadata
        return self._first()

    def _first(self) -> list[bytes]:
        raise NotImplementedError

    def receive(self, name: bytes, body: bytes) -> list[bytes]:
        """Take a command of the handshake.

        Raises:
            PeerError: if it is malformed, forged or out of turn, or the peer is not accepted.
        """
        if name != self._expects:
            raise PeerError(f"the command {name[:20]!r} came in place of {self._expects.decode()}", HANDSHAKE)
        try:
            return self._answer(body)
        except CryptoError as error:
            raise PeerError(f"the command {name.decode()} is not authentic", HANDSHAKE) from error

    def _answer(self, body: bytes) -> list[bytes]:
        raise NotImplementedError

    def wrap(self, frames: bytes) -> bytes:
        """Encrypt whole encoded frames; return the encoded frames of MESSAGEs."""
        prefix, shared, number = self._own_prefix, self._shared, self._own_nonce
        wrapped: list[bytes] = []
        at, end = 0, len(frames)
        while at < end:
            flags = frames[at]
            if flags & LONG:
                start = at + 9
                stop = start + int.from_bytes(frames[at + 1 : start], "big")
            else:
                start = at + 2
                stop = start + frames[at + 1]
            number += 1
            nonce = number.to_bytes(8, "big")
            plain = _INNER_FLAGS[flags] + frames[start:stop]
            size = len(plain)
            box = _allocate(_BYTES, size + _MAC_BYTES)
            # It cannot fail: libsodium refuses only sizes beyond those of memory.
            _seal(box, plain, size, prefix + nonce, shared)
            wrapped += (_SHORT_HEADERS[size] if size < _LONG_BYTES else _long_header(size), nonce, _buffer(box)[:])
            at = stop
        self._own_nonce = number
        return b"".join(wrapped)

    def unwrap(self, flags: int, body: bytes) -> tuple[int, bytes]:
        """Decrypt the body of a MESSAGE.

        Raises:
            PeerError: if it is not authentic, or it was sent before.
        """
        size = len(body) - _BOX_AT - _MAC_BYTES
        if size < 1 or (flags and flags != COMMAND) or not body.startswith(_MESSAGE_NAME):
            raise PeerError("a frame after the handshake is no MESSAGE of CURVE", MESSAGE)
        nonce = body[_NONCE_AT:_BOX_AT]
        if nonce <= self._peer_nonce:  # bytes of one length compare as the numbers do
            self._refuse_nonce(nonce, MESSAGE)
        self._peer_nonce = nonce
        plain = _allocate(_BYTES, size)
        box = body[_BOX_AT:]
        if _open(plain, box, size + _MAC_BYTES, self._peer_prefix + nonce, self._shared):
            raise PeerError("a MESSAGE is not authentic", MESSAGE)
        inner = plain[0]
        if inner >= len(_OUTER_FLAGS):
            raise PeerError(f"a MESSAGE has the flags {inner:#04x}", MESSAGE)
        return _OUTER_FLAGS[inner], _buffer(plain)[1:]

    def _next_nonce(self) -> bytes:
        self._own_nonce += 1
        return self._own_nonce.to_bytes(_SHORT_NONCE_BYTES, "big")

    def _note_nonce(self, nonce: bytes) -> None:
        if nonce <= self._peer_nonce:
            self._refuse_nonce(nonce, HANDSHAKE)
        self._peer_nonce = nonce

    def _refuse_nonce(self, nonce: bytes, reason: str) -> NoReturn:
        value, last = (int.from_bytes(one, "big") for one in (nonce, self._peer_nonce))
        raise PeerError(f"the nonce {value} is not higher than {last}, the one before", reason)


class CurveServer(_Curve):
    """The server's end: HELLO in, WELCOME out, INITIATE in, READY out.

    Attributes:
        peer_name: what `name_of` says of the peer; empty before its key is accepted.
        peer_key: the long-term public key of the peer; empty before it is accepted.
    """

    as_server = True
    _own_prefix = b"CurveZMQMESSAGES"
    _peer_prefix = b"CurveZMQMESSAGEC"

    def __init__(self, keys: CurveKeys, name_of: NameOf) -> None:
        """Make the server's end of one connection.

        Args:
            keys: its long-term keys.
            name_of: decides which peers are accepted.
        """
        super().__init__(keys)
        self._name_of = name_of
        # RFC 26 has the server keep nothing but this key between WELCOME and INITIATE. It is new for each connection:
        # with one for all, an INITIATE and the MESSAGEs after it could be replayed on another connection.
        self._cookie_key = b""

    def _first(self) -> list[bytes]:
        self._expects = b"HELLO"
        return []

    def _answer(self, body: bytes) -> list[bytes]:
        return self._welcome(body) if self._expects == b"HELLO" else self._ready(body)

    def _welcome(self, hello: bytes) -> list[bytes]:
        if len(hello) != _HELLO_BYTES or hello[:2] != _VERSION:
            raise PeerError(f"a HELLO has {len(hello)} bytes and version {hello[:2]!r}", HANDSHAKE)
        client_key, nonce, box = hello[74:106], hello[106:114], hello[114:]
        self._note_nonce(nonce)
        shared = crypto_box_beforenm(client_key, self._keys.secret)
        try:
            crypto_box_open_easy_afternm(box, b"CurveZMQHELLO---" + nonce, shared)
        except CryptoError as error:
            raise PeerError("the peer knows another key of this server (or sent a forged HELLO)", SERVER_KEY) from error
        public, secret = crypto_box_keypair()
        self._cookie_key = randombytes(KEY_BYTES)
        cookie_nonce, welcome_nonce = randombytes(_LONG_NONCE_BYTES), randombytes(_LONG_NONCE_BYTES)
        cookie = cookie_nonce + crypto_secretbox(client_key + secret, b"COOKIE--" + cookie_nonce, self._cookie_key)
        self._expects = b"INITIATE"
        sealed = crypto_box_easy_afternm(public + cookie, b"WELCOME-" + welcome_nonce, shared)
        return [encode_command(b"WELCOME", welcome_nonce + sealed)]

    def _ready(self, initiate: bytes) -> list[bytes]:
        if len(initiate) < _LEAST_INITIATE_BYTES:
            raise PeerError(f"an INITIATE has {len(initiate)} bytes", HANDSHAKE)
        cookie, nonce, box = initiate[:96], initiate[96:104], initiate[104:]
        opened = crypto_secretbox_open(cookie[16:], b"COOKIE--" + cookie[:16], self._cookie_key)
        client_key, secret = opened[:KEY_BYTES], opened[KEY_BYTES:]
        self._cookie_key = b""
        self._note_nonce(nonce)
        self._shared = crypto_box_beforenm(client_key, secret)
        plain = crypto_box_open_easy_afternm(box, b"CurveZMQINITIATE" + nonce, self._shared)
        long_term, vouch, metadata = plain[:32], plain[32:128], plain[128:]
        vouched = crypto_box_open_easy(vouch[16:], b"VOUCH---" + vouch[:16], long_term, secret)
        if not sodium_memcmp(vouched, client_key + self._keys.public):
            raise PeerError("the vouch of an INITIATE is for other keys", HANDSHAKE)
        name = self._name_of(long_term)
        if name is None:
            # Without an ERROR: after one, libzmq's client never connects again, and the key may be accepted soon.
            raise PeerError("the peer's key is none of those that are accepted", CLIENT_KEY)
        self.peer_name, self.peer_key, self.peer_metadata = name, long_term, metadata
        self._expects = b""
        own_nonce = self._next_nonce()
        sealed = crypto_box_easy_afternm(self._metadata, b"CurveZMQREADY---" + own_nonce, self._shared)
        return [encode_command(b"READY", own_nonce + sealed)]


class CurveClient(_Curve):
    """The client's end: HELLO out, WELCOME in, INITIATE out, READY in."""

    as_server = False
    _own_prefix = b"CurveZMQMESSAGEC"
    _peer_prefix = b"CurveZMQMESSAGES"

    def __init__(self, keys: CurveKeys, server_key: bytes) -> None:
        """Make the client's end of one connection.

        Args:
            keys: its long-term keys.
            server_key: the long-term public key of the server, 32 bytes.
        """
        super().__init__(keys)
        self.peer_key = server_key
        self._public, self._secret = crypto_box_keypair()  # C' and c'

    def _first(self) -> list[bytes]:
        self._expects = b"WELCOME"
        nonce = self._next_nonce()
        box = crypto_box_easy(bytes(64), b"CurveZMQHELLO---" + nonce, self.peer_key, self._secret)
        return [encode_command(b"HELLO", _VERSION + bytes(72) + self._public + nonce + box)]

    def _answer(self, body: bytes) -> list[bytes]:
        return self._initiate(body) if self._expects == b"WELCOME" else self._complete(body)

    def _initiate(self, welcome: bytes) -> list[bytes]:
        if len(welcome) != _WELCOME_BYTES:
            raise PeerError(f"a WELCOME has {len(welcome)} bytes", HANDSHAKE)
        plain = crypto_box_open_easy(welcome[16:], b"WELCOME-" + welcome[:16], self.peer_key, self._secret)
        server_key, cookie = plain[:KEY_BYTES], plain[KEY_BYTES:]
        self._shared = crypto_box_beforenm(server_key, self._secret)
        self._secret = b""
        vouch_nonce, nonce = randombytes(_LONG_NONCE_BYTES), self._next_nonce()
        vouched = self._public + self.peer_key
        vouch = vouch_nonce + crypto_box_easy(vouched, b"VOUCH---" + vouch_nonce, server_key, self._keys.secret)
        introduced = self._keys.public + vouch + self._metadata
        box = crypto_box_easy_afternm(introduced, b"CurveZMQINITIATE" + nonce, self._shared)
        self._expects = b"READY"
        return [encode_command(b"INITIATE", cookie + nonce + box)]

    def _complete(self, ready: bytes) -> list[bytes]:
        if len(ready) < _LEAST_READY_BYTES:
            raise PeerError(f"a READY has {len(ready)} bytes", HANDSHAKE)
        nonce = ready[:_SHORT_NONCE_BYTES]
        self._note_nonce(nonce)
        box = ready[_SHORT_NONCE_BYTES:]
        self.peer_metadata = crypto_box_open_easy_afternm(box, b"CurveZMQREADY---" + nonce, self._shared)
        self._expects = b""
        return []
