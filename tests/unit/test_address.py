"""Credentials leave an address before it is shown."""

import pytest

from edge_runtime.contract.address import redact


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rtsp://10.0.0.5/stream1", "rtsp://10.0.0.5/stream1"),
        ("rtsp://user:secret@10.0.0.5/s", "rtsp://***@10.0.0.5/s"),
        ("rtsp://user@10.0.0.5/s", "rtsp://***@10.0.0.5/s"),
        ("rtsp://user:a@b/c#d@10.0.0.5/s", "rtsp://***@10.0.0.5/s"),
        ("http://cam/video?user=a&password=b&size=1", "http://cam/video?user=***&password=***&size=1"),
        ("cannot open rtsp://u:p@h/s: refused", "cannot open rtsp://***@h/s: refused"),
        ("/dev/video0", "/dev/video0"),
        ("mail@example.com.mp4", "mail@example.com.mp4"),
    ],
)
def test_redact(text: str, shown: str) -> None:
    assert redact(text) == shown
