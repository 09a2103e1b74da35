"""Servers for the time of a benchmark: nginx where it is installed with its Lua module, `server.py` elsewhere.

Both answer the same bodies at the same paths (see `server`). All figures but calls per second are of the client's own
CPU time and memory, which the server's speed hardly enters.
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from answers import AT_ONCE, EVENTS, chat_events, completion_body, response_events
from server import PACE, PACED_EVENTS, SLOW


@dataclass
class Server:
    """Where a server is, and what it is."""

    kind: str
    port: int
    tls_port: int | None = None
    authority: Path | None = None
    """What clients must trust, for SSL_CERT_FILE."""

    def base(self, route: str, *, tls: bool = False) -> str:
        """The base URL at which everything is answered in one way."""
        return f"https://localhost:{self.tls_port}/{route}/v1" if tls else f"http://127.0.0.1:{self.port}/{route}/v1"

    def count(self) -> int:
        """How many completions were asked for at `/whole` so far."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/count") as reply:
            return int(reply.read())


@contextmanager
def canned_server(events: int = EVENTS, certificate: Path | None = None) -> Iterator[Server]:
    """`server.py` in a process of its own."""
    command = [sys.executable, str(Path(__file__).with_name("server.py")), "0", str(events)]
    if certificate is not None:
        command += ["--tls", str(certificate)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            server = Server("asyncio, server.py", int(process.stdout.readline()))
            if certificate is not None:
                server.tls_port, server.authority = int(process.stdout.readline()), certificate.with_name("ca.pem")
            yield server
        finally:
            process.terminate()


@contextmanager
def native_server() -> Iterator[Server]:
    """nginx with the same answers, or `canned_server` where there is none."""
    with tempfile.TemporaryDirectory(prefix="aimlasync-bench-") as place:
        folder = Path(place)
        certificate = make_certificate(folder)
        config = nginx_config(folder, certificate)
        if config is None:
            with canned_server(certificate=certificate) as server:
                yield server
            return
        server, command = config
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                _await(server.port)
                yield server
            finally:
                process.terminate()


def make_certificate(folder: Path) -> Path | None:
    """A certificate for localhost beside its authority's; None where trustme is not installed."""
    try:
        import trustme
    except ImportError:
        return None
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    issued = authority.issue_cert("localhost", "127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
    return folder / "server.pem"


def nginx_config(folder: Path, certificate: Path | None) -> tuple[Server, list[str]] | None:
    """Write the configuration; None where nginx, or its Lua module, is missing."""
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if nginx is None:
        return None
    (folder / "whole").write_bytes(completion_body())
    for name, events in {
        "chunks": chat_events(),
        "events": response_events(),
        "paced": chat_events(PACED_EVENTS),
    }.items():
        (folder / name).write_bytes(b"".join(events))
    server = Server("nginx", _free_port())
    tls = ""
    if certificate is not None:
        server.tls_port, server.authority = _free_port(), certificate.with_name("ca.pem")
        tls = f"""listen 127.0.0.1:{server.tls_port} ssl backlog=4096; listen [::1]:{server.tls_port} ssl;
        ssl_certificate {certificate}; ssl_certificate_key {certificate};"""
    config = folder / "nginx.conf"
    text = NGINX.replace("FOLDER", str(folder)).replace("PORT", str(server.port)).replace("TLS", tls)
    text = text.replace("AT_ONCE", str(AT_ONCE)).replace("PACE", str(PACE)).replace("SLOW", str(SLOW))
    modules = re.search(r"--modules-path=(\S+)", subprocess.run([nginx, "-V"], capture_output=True, text=True).stderr)
    text = text.replace("MODULES", modules[1] if modules else "modules")
    config.write_text(text)
    command = [nginx, "-p", str(folder), "-c", str(config)]
    checked = subprocess.run([*command, "-t"], capture_output=True, check=False)
    return (server, command) if checked.returncode == 0 else None


NGINX = r"""
load_module MODULES/ndk_http_module.so;
load_module MODULES/ngx_http_lua_module.so;
daemon off; master_process off; pid FOLDER/pid; error_log FOLDER/errors warn;
worker_rlimit_nofile 20000;
events { worker_connections 16384; }
http {
    access_log off; keepalive_requests 100000000; keepalive_timeout 600; tcp_nodelay on;
    client_body_temp_path FOLDER/a; proxy_temp_path FOLDER/b; fastcgi_temp_path FOLDER/c;
    uwsgi_temp_path FOLDER/d; scgi_temp_path FOLDER/e;
    init_by_lua_block {
        local function read(name)
            local file = io.open("FOLDER/" .. name, "rb")
            local text = file:read("*a")
            file:close()
            return text
        end
        local function events(name, at_once)
            local pieces, piece, count = {}, {}, 0
            for event in read(name):gmatch("(.-\n\n)") do
                piece[#piece + 1] = event
                if #piece == at_once then pieces[#pieces + 1], piece = table.concat(piece), {} end
            end
            if #piece > 0 then pieces[#pieces + 1] = table.concat(piece) end
            return pieces
        end
        local streams = {
            chunks = events("chunks", AT_ONCE), events = events("events", AT_ONCE), paced = events("paced", 1),
        }
        local whole, count = read("whole"), 0
        package.loaded.answers = {
            count = function() ngx.print(count) end,
            whole = function()
                count = count + 1
                ngx.header["Content-Type"] = "application/json"
                ngx.header["Content-Length"] = #whole
                ngx.print(whole)
            end,
            stream = function(name, pace)
                ngx.header["Content-Type"] = "text/event-stream"
                for _, piece in ipairs(streams[name]) do
                    ngx.print(piece)
                    if pace then ngx.flush(true); ngx.sleep(pace) end
                end
            end,
        }
    }
    server {
        listen 127.0.0.1:PORT backlog=4096;
        TLS
        client_body_buffer_size 1m; client_max_body_size 64m;
        location /whole/ { content_by_lua_block { ngx.req.read_body(); require("answers").whole() } }
        location /chunks/ { content_by_lua_block { ngx.req.read_body(); require("answers").stream("chunks") } }
        location /events/ { content_by_lua_block { ngx.req.read_body(); require("answers").stream("events") } }
        location /paced/ { content_by_lua_block { ngx.req.read_body(); require("answers").stream("paced", PACE) } }
        location /count { content_by_lua_block { require("answers").count() } }
        location /slow/ { content_by_lua_block { ngx.req.read_body(); ngx.sleep(SLOW); require("answers").whole() } }
    }
}
"""


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def _await(port: int) -> None:
    for _ in range(500):
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.01)
    raise TimeoutError("the server does not begin")
