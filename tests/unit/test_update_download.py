"""Downloads from servers and over links that misbehave."""

from collections.abc import Callable
from pathlib import Path

import pytest

from edge_runtime.contract.errors import ConfigError
from edge_runtime.contract.update import Failure, UpdateFailedError
from edge_runtime.update.download import Downloader, DownloadOptions
from edge_runtime.update.store import Part, Store
from tests.simulators.range_server import Files, serving
from tests.simulators.updates import sha

CONTENT = bytes(range(256)) * 400
CHUNK = 10_000


def fetch(
    files: Files, part: Part, *, whole_again: bool = False, head_s: float = 30.0, stall_s: float = 30.0
) -> bool:
    options = DownloadOptions(chunk_bytes=CHUNK, connect_s=head_s, stall_s=stall_s)
    return Downloader(files.url, options).fetch("file", part, whole_again=whole_again)


def part_in(folder: Path) -> Part:
    return Store(folder).part(sha(CONTENT), len(CONTENT))


@pytest.mark.parametrize("etag", ["strong", "weak", "none"])
def test_a_flapping_link_costs_a_chunk_an_interruption_at_most(etag: str, tmp_path: Path) -> None:
    with serving(Files({"file": CONTENT}, cut_after=25_000)) as files:
        files.no_etag, files.weak_etag = etag == "none", etag == "weak"
        for _ in range(20):
            try:
                if fetch(files, part_in(tmp_path)):
                    break
            except UpdateFailedError as error:
                assert (error.code, error.retryable) == (Failure.DOWNLOAD_FAILED, True)
        interruptions = len(files.asked) - 1
        assert files.sent - len(CONTENT) <= interruptions * CHUNK
        assert interruptions >= 3
    part = part_in(tmp_path)
    assert part.complete
    store = Store(tmp_path)
    store.adopt(part, sha(CONTENT))
    assert store.path(sha(CONTENT)).read_bytes() == CONTENT
    assert list(store.parts.iterdir()) == []


def broken(
    change: Callable[[Files], object], tmp_path: Path, *, head_s: float = 30.0, stall_s: float = 30.0
) -> UpdateFailedError:
    """The second request meets a changed server."""
    with serving(Files({"file": CONTENT}, cut_after=25_000)) as files:
        with pytest.raises(UpdateFailedError):
            fetch(files, part_in(tmp_path))
        files.cut_after = None
        change(files)
        with pytest.raises(UpdateFailedError) as caught:
            fetch(files, part_in(tmp_path), head_s=head_s, stall_s=stall_s)
        return caught.value


@pytest.mark.parametrize(
    ("change", "code", "retryable"),
    [
        ({"changes": True}, Failure.DOWNLOAD_CHANGED, False),
        ({"content": {"file": CONTENT[:20_000]}}, Failure.DOWNLOAD_CHANGED, False),
        ({"content": {"file": CONTENT[:20_000]}, "no_etag": True}, Failure.DOWNLOAD_CHANGED, False),
        ({"ignores_range": True}, Failure.DOWNLOAD_NO_RANGE, False),
        ({"status": 404}, Failure.DOWNLOAD_FAILED, False),
        ({"status": 503}, Failure.DOWNLOAD_FAILED, True),
        ({"status": 429}, Failure.DOWNLOAD_FAILED, True),
        ({"redirect": "http://shop.example/file"}, Failure.DOWNLOAD_FAILED, False),
        ({"redirect": "/file"}, Failure.DOWNLOAD_FAILED, False),
    ],
)
def test_a_server_that_changes(
    change: dict[str, object], code: Failure, retryable: bool, tmp_path: Path
) -> None:
    def apply(files: Files) -> None:
        for name, value in change.items():
            setattr(files, name, value)

    error = broken(apply, tmp_path)
    assert (error.code, error.retryable) == (code, retryable)


def test_a_stalled_body_and_a_stalled_head_end_by_themselves(tmp_path: Path) -> None:
    error = broken(lambda files: setattr(files, "stall_after", 3_000), tmp_path, stall_s=0.3)
    assert (error.code, error.retryable) == (Failure.DOWNLOAD_FAILED, True)
    error = broken(lambda files: setattr(files, "stalls_head", True), tmp_path / "head", head_s=0.3)
    assert (error.code, error.retryable) == (Failure.DOWNLOAD_FAILED, True)
    assert part_in(tmp_path).done_bytes >= 20_000, "what came before counts"


def test_not_a_byte_more_than_promised_is_kept(tmp_path: Path) -> None:
    with serving(Files({"file": CONTENT}, too_long=True)) as files:
        with pytest.raises(UpdateFailedError) as caught:
            fetch(files, part_in(tmp_path))
        assert caught.value.code is Failure.DOWNLOAD_CHANGED
        assert part_in(tmp_path).done_bytes <= len(CONTENT)


def test_a_server_without_range_may_send_the_whole_where_that_is_allowed(tmp_path: Path) -> None:
    with serving(Files({"file": CONTENT}, ignores_range=True, cut_after=25_000)) as files:
        with pytest.raises(UpdateFailedError):
            fetch(files, part_in(tmp_path), whole_again=True)
        files.cut_after = None
        assert fetch(files, part_in(tmp_path), whole_again=True)
        Store(tmp_path).adopt(part_in(tmp_path), sha(CONTENT))


def test_it_stops_when_asked_and_keeps_what_came(tmp_path: Path) -> None:
    with serving(Files({"file": CONTENT}, stall_after=25_000)) as files:
        part = part_in(tmp_path)
        asked: list[int] = []

        def stop() -> bool:
            asked.append(1)
            return len(asked) > 8

        options = DownloadOptions(chunk_bytes=CHUNK)
        assert not Downloader(files.url, options).fetch("file", part, whole_again=False, stop=stop)
    assert part.done_bytes > 0


@pytest.mark.parametrize("url", ["http://shop.example/", "ftp://127.0.0.1/", "http://10.0.0.1/"])
def test_only_safe_addresses(url: str) -> None:
    with pytest.raises(ConfigError):
        Downloader(url)


def test_a_wrong_digest_throws_the_part_away(tmp_path: Path) -> None:
    store = Store(tmp_path)
    part = store.part("0" * 64, 4)
    part.append(b"abcd", None)
    with pytest.raises(UpdateFailedError) as caught:
        store.adopt(part, "0" * 64)
    assert caught.value.code is Failure.DIGEST
    assert not store.has("0" * 64)
    assert store.part("0" * 64, 4).done_bytes == 0
