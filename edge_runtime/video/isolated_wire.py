"""How a camera's reader process and its camera talk: a document, and bytes where there are any.

JSON, and no pickles: who decodes what strangers send is not to be trusted with code.
"""

import json
import socket
import struct
from typing import Any, cast

_HEAD = struct.Struct("!II")

MAX_BYTES = 64 * 2**20

Document = dict[str, Any]


def send(channel: socket.socket, document: Document, blob: bytes = b"") -> None:
    """Send one message.

    Raises:
        OSError: Nobody is there.
    """
    text = json.dumps(document, separators=(",", ":")).encode()
    channel.sendall(b"".join((_HEAD.pack(len(text), len(blob)), text, blob)))


def receive(channel: socket.socket) -> tuple[Document, bytes]:
    """Receive one message.

    Raises:
        EOFError: The other end is gone.
        OSError: The other end is gone, or silent for longer than the channel's timeout.
        ValueError: It is no message.
    """
    text_bytes, blob_bytes = _HEAD.unpack(_exactly(channel, _HEAD.size))
    if max(text_bytes, blob_bytes) > MAX_BYTES:
        raise ValueError(f"a message of {text_bytes} and {blob_bytes} bytes")
    document: object = json.loads(_exactly(channel, text_bytes))
    if not isinstance(document, dict):
        raise ValueError("no document")
    return cast("Document", document), _exactly(channel, blob_bytes)


def _exactly(channel: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        part = channel.recv(min(count - len(parts), 2**20))
        if not part:
            raise EOFError("the other end is gone")
        parts += part
    return bytes(parts)
