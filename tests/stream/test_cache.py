"""Remote shards: patience, whole files only, names that cannot collide, one download however many ask."""

import http.server
import multiprocessing
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch
from tiny_stream import LENIENT, Shown, config_of

from mmssl.errors import MmsslError
from mmssl.stream import Stream, cache, scan, workers


class Server(http.server.ThreadingHTTPServer):
    """Counts requests for whole files, breaks the first ``to_break`` answers in the middle, and leaves
    requests for ``silent`` without any.
    """

    def __init__(self, root: Path) -> None:
        self.gets: list[str] = []
        self.to_break = 0
        self.silent = ""
        self.over = threading.Event()
        self.root = root
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_HEAD(self) -> None:
        self.answer(False)

    def do_GET(self) -> None:
        self.answer(True)

    def answer(self, body: bool) -> None:
        path = self.server.root / self.path.lstrip("/")
        if not path.is_file():
            self.send_error(404)
            return
        if path.name == self.server.silent:
            self.server.over.wait()
            return
        data = path.read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if not body:
            return
        self.server.gets.append(self.path)
        if self.server.to_break:
            self.server.to_break -= 1
            self.wfile.write(data[: len(data) // 2])
            self.close_connection = True
            return
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(cache, "FIRST_PAUSE", 0.01)
    root = tmp_path / "served"
    root.mkdir()
    with Server(root) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.over.set()
        server.shutdown()
        thread.join()


def kept(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_broken_connections_are_tried_again_and_nothing_half_remains(server: Server, tmp_path: Path) -> None:
    (server.root / "a.tar").write_bytes(bytes(range(256)) * 400)
    server.to_break = 2
    copy = cache.fetch(f"{server.url}/a.tar", 102400, tmp_path / "kept")
    assert copy.read_bytes() == bytes(range(256)) * 400
    assert kept(tmp_path / "kept") == [copy]
    asked = len(server.gets)
    assert cache.fetch(f"{server.url}/a.tar", 102400, tmp_path / "kept") == copy
    assert len(server.gets) == asked


def test_gives_up_in_the_end(server: Server, tmp_path: Path) -> None:
    (server.root / "a.tar").write_bytes(bytes(1000))
    server.to_break = 10**6
    with pytest.raises(cache.Unreachable, match=r"a\.tar.*4 attempts"):
        cache.fetch(f"{server.url}/a.tar", 1000, tmp_path / "kept")
    assert not kept(tmp_path / "kept")


def test_missing_or_of_another_size(server: Server, tmp_path: Path) -> None:
    (server.root / "a.tar").write_bytes(bytes(1000))
    with pytest.raises(cache.Unreachable, match=r"b\.tar"):
        cache.fetch(f"{server.url}/b.tar", 1000, tmp_path / "kept")
    with pytest.raises(cache.Unreachable, match="1000 bytes, expected 1001"):
        cache.fetch(f"{server.url}/a.tar", 1001, tmp_path / "kept")
    assert not kept(tmp_path / "kept")


def test_same_name_elsewhere_is_another_file(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    for folder, content in (("one", b"1" * 50), ("two", b"2" * 50)):
        memory.pipe(f"/{folder}/000000.tar", content)
    copies = [cache.fetch(f"memory://{folder}/000000.tar", 50, tmp_path) for folder in ("one", "two")]
    assert [copy.read_bytes()[:1] for copy in copies] == [b"1", b"2"]


def test_a_damaged_copy_is_replaced(tmp_path: Path) -> None:
    fsspec.filesystem("memory").pipe("/x/000000.tar", b"3" * 50)
    copy = cache.fetch("memory://x/000000.tar", 50, tmp_path)
    copy.write_bytes(b"3" * 20)
    assert cache.fetch("memory://x/000000.tar", 50, tmp_path).read_bytes() == b"3" * 50


def test_full_disk_is_said_and_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec.filesystem("memory").pipe("/x/1.tar", b"3" * 50)
    calls = []

    def full(*_: Any) -> None:
        calls.append(1)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache, "_copy", full)
    with pytest.raises(MmsslError, match="No space left"):
        cache.fetch("memory://x/1.tar", 50, tmp_path / "kept")
    assert len(calls) == 1
    assert not kept(tmp_path / "kept")


def fetch_in_process(url: str, size: int, folder: Path) -> None:
    cache.fetch(url, size, folder)


def test_many_processes_download_once(server: Server, tmp_path: Path) -> None:
    (server.root / "a.tar").write_bytes(bytes(5_000_000))
    context = workers._context()  # has everything imported, and is shared with the other tests
    arguments = (f"{server.url}/a.tar", 5_000_000, tmp_path / "kept")
    processes = [context.Process(target=fetch_in_process, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert server.gets == ["/a.tar"]
    assert len(kept(tmp_path / "kept")) == 1


def test_streams_over_urls_equal_local_ones(server: Server, shards: Path, tmp_path: Path) -> None:
    server.root = shards
    memory = fsspec.filesystem("memory")
    memory.put(str(shards), "/remote", recursive=True)
    local = [
        b.image for b in Stream(config_of(shards), {"image": Shown()}, batch_size=10, seed=1).batches(0, 6)
    ]
    for url, processes in ((server.url, 2), ("memory://remote", 0), (f"file://{shards}", 0)):
        config = config_of(url, workers=processes, cache=str(tmp_path / "kept"))
        found = [b.image for b in Stream(config, {"image": Shown()}, batch_size=10, seed=1).batches(0, 6)]
        assert all(torch.equal(a, b) for a, b in zip(found, local, strict=True))


def test_a_remote_tar_that_is_missing_is_named(server: Server, make_set: Any, tmp_path: Path) -> None:
    server.root = make_set([5, 5])
    (server.root / "train/000001.tar").unlink()
    config = config_of(server.url, cache=str(tmp_path / "kept"), faults=LENIENT)
    batches = list(scan(config, {"image": Shown()}))
    assert batches[0].id.tolist() == [0, 1, 2, 3, 4]
    assert len(batches[0].faults) == 5
    assert "train/000001.tar" in batches[0].faults[0].shard


def test_a_worker_that_waits_for_the_network_does_not_hold_up_the_end(
    server: Server, make_set: Any, tmp_path: Path
) -> None:
    """The loader asks it to end, waits for five seconds, and then insists."""
    server.root = make_set([5, 5])
    server.silent = "000001.tar"
    config = config_of(server.url, cache=str(tmp_path / "kept"), workers=1)
    batches = scan(config, {"image": Shown()}, batch_size=5)
    assert next(batches).id.tolist() == [0, 1, 2, 3, 4]
    (worker,) = multiprocessing.active_children()
    start = time.monotonic()
    del batches
    assert not worker.is_alive()
    assert time.monotonic() - start < 9
