"""The clients of a run: single requests that look at the answer, wrk and h2load, and idle connections."""

import http.client
import multiprocessing
import os
import re
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from urllib.parse import urlsplit

HERE = Path(__file__).resolve().parent
PLAIN_HOST = "plain.localhost"
WRK = "wrk -t1 -c32 --timeout 10s"
# The same suite as in openssl.cnf: left to themselves the servers choose differently, and AES-256 costs more.
H2LOAD = "h2load -t1 -c8 -m16 --tls13-ciphers=TLS_AES_128_GCM_SHA256"
HANDSHAKES_AT_ONCE = 16
ONCE = "wrk -t1 -c64 --timeout 10s"
# Ends a run whose answers do not come, or come more slowly than any contender gives them.
ONCE_SECONDS = 60
ONCE_LOWEST_RATE = 500
IDLE_DEADLINE_SECONDS = 300.0


class Failed(Exception):
    """Something that was asked for did not happen; the message goes into the report."""


@dataclass(frozen=True)
class Load:
    """What a load generator saw."""

    requests: int
    seconds: float
    data_bytes: int
    failures: int


def fetch(url: str, port: int, cert: Path) -> bytes:
    """The body of `url` from 127.0.0.1, over HTTP/1.1; TLS believes only the run's own certificate."""
    parts = urlsplit(url)
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            if parts.scheme == "https":
                context = ssl.create_default_context(cafile=str(cert))
                connection = context.wrap_socket(connection, server_hostname=parts.hostname)
            with connection:
                status, body = _get(connection, parts.netloc, parts.path)
    except (OSError, http.client.HTTPException) as problem:
        raise Failed(f"{url}: {problem or type(problem).__name__}") from problem
    if status != 200:
        raise Failed(f"{url}: status {status}")
    return body


def fetch_h2(url: str) -> bytes:
    """The body of `url` over HTTP/2. nghttp ends well whatever the status, so the caller compares the body."""
    done = subprocess.run(["nghttp", "--timeout=10", url], capture_output=True, check=False)
    if done.returncode != 0:
        raise Failed(f"{url}: nghttp: {done.stderr.decode(errors='replace').strip()[-200:]}")
    return done.stdout


def wrk(url: str, host: str, seconds: int, cpu: int, miss_prefix: str | None = None) -> Load:
    """HTTP/1.1 with kept connections; with `miss_prefix`, another address below /miss/ each time."""
    command = [*WRK.split(), "-d", f"{seconds}s", "-H", f"Host: {host}", "-s", str(HERE / "load.lua"), url]
    environment = {"OPENSSL_CONF": str(HERE / "openssl.cnf")}
    if miss_prefix:
        environment |= {"MISS_PREFIX": miss_prefix, "MISS_HOST": host}
    return _run_wrk(command, cpu, environment)


def once(port: int, path: str, numbers: range, cpu: int, seed: int | None = None) -> Load:
    """Every object from `path` and a number, once each over HTTP/1.1: by number, or in an order drawn from `seed`. A
    few of the last are asked for again while the very last answer is on its way."""
    seconds = ONCE_SECONDS + len(numbers) // ONCE_LOWEST_RATE
    url = f"http://127.0.0.1:{port}/"
    command = [*ONCE.split(), "-d", f"{seconds}s", "-s", str(HERE / "once.lua"), url]
    environment = {
        "ONCE_HOST": PLAIN_HOST,
        "ONCE_PATH": path,
        "ONCE_FIRST": str(numbers.start),
        "ONCE_COUNT": str(len(numbers)),
    }
    if seed is not None:
        environment["ONCE_SEED"] = str(seed)
    seen = _run_wrk(command, cpu, environment)
    if seen.requests < len(numbers) or seen.failures:
        raise Failed(f"{seen.requests} of {len(numbers)} objects came, with {seen.failures} failures")
    return seen


def fetch_each(port: int, wanted: Iterable[tuple[str, bytes]]) -> None:
    """Paths one by one over one connection without TLS; fails at the first whose body is not the one beside it."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            for path, body in wanted:
                status, got = _get(connection, PLAIN_HOST, path)
                if status != 200 or got != body:
                    raise Failed(f"{path}: status {status}, {len(got)} bytes, not the object that was wanted")
    except (OSError, http.client.HTTPException) as problem:
        raise Failed(f"objects one by one: {problem or type(problem).__name__}") from problem


def h2load(url: str, port: int, seconds: int, cpu: int) -> Load:
    """HTTP/2 over TLS."""
    command = [*H2LOAD.split(), "-D", str(seconds), f"--connect-to=127.0.0.1:{port}", url]
    text = _run_pinned(command, cpu, {})
    done = re.search(r"(\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", text)
    good = re.search(r"^status codes: (\d+) 2xx", text, re.MULTILINE)
    data = re.search(r"\((\d+)\) data", text)
    if not (done and good and data) or "Application protocol: h2\n" not in text:
        raise Failed(f"h2load: {text.strip()[-200:]}")
    requests, succeeded, failed, errored, timeout = (int(figure) for figure in done.groups())
    failures = max(failed + errored + timeout, requests - min(succeeded, int(good.group(1))))
    return Load(requests, float(seconds), int(data.group(1)), failures)


def handshakes(binary: Path, kind: str, port: int, seconds: int, cpu: int) -> tuple[Load, str]:
    """TLS 1.3 handshakes without requests, and the group of their key exchange."""
    text = _run_pinned([str(binary), f"127.0.0.1:{port}", str(seconds), kind], cpu, {})
    figures = re.search(r"^figures (\d+) (\d+) (\d+) (\d+) (\S+)$", text, re.MULTILINE)
    if not figures:
        raise Failed(f"handshakes: {text.strip()[-200:]}")
    done, micros, resumed, failures = (int(figure) for figure in figures.groups()[:4])
    # Of the first connections of each client there is nothing to resume.
    wanted = done - HANDSHAKES_AT_ONCE if kind == "resumed" else 0
    if resumed < wanted or (kind != "resumed" and resumed):
        raise Failed(f"{resumed} of {done} handshakes were resumed")
    return Load(done, micros / 1e6, 0, failures), figures.group(5)


def with_idle_connections(count: int, port: int, path: str, cert: Path, cpu: int, measure: Callable[[], int]) -> int:
    """What `measure` says while `count` TLS connections are open, each after one request. A process of their own
    holds them: one may not have enough file descriptors for both ends."""
    here, there = multiprocessing.Pipe()
    client = multiprocessing.Process(target=_hold, args=(there, count, port, path, cert, cpu), daemon=True)
    client.start()
    # Else the pipe would not end with that process.
    there.close()
    try:
        problem = _receive(here)
        measured = measure()
        here.send("count")
        still_open = int(_receive(here))
    finally:
        client.terminate()
        client.join()
    if still_open < count:
        raise Failed(f"{still_open} of {count} idle connections were open: {problem or 'the others were closed'}")
    return measured


def _receive(pipe: Connection) -> str:
    if not pipe.poll(IDLE_DEADLINE_SECONDS):
        raise Failed(f"the connections were not open after {IDLE_DEADLINE_SECONDS:.0f} s")
    try:
        return str(pipe.recv())
    except EOFError:
        raise Failed("the process holding the connections ended") from None


def _hold(pipe: Connection, count: int, port: int, path: str, cert: Path, cpu: int) -> None:
    os.sched_setaffinity(0, {cpu})
    context = ssl.create_default_context(cafile=str(cert))
    held: list[ssl.SSLSocket] = []
    problem = ""
    try:
        for _ in range(count):
            raw = socket.create_connection(("127.0.0.1", port), timeout=30)
            held.append(context.wrap_socket(raw, server_hostname="localhost"))
            _get(held[-1], "localhost", path)
    except (OSError, http.client.HTTPException) as error:
        problem = str(error)
    pipe.send(problem)
    pipe.recv()
    pipe.send(str(sum(_is_open(connection) for connection in held)))


def _get(connection: socket.socket, host: str, path: str) -> tuple[int, bytes]:
    """Status and body; the connection stays open."""
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    response = http.client.HTTPResponse(connection)
    response.begin()
    body = response.read()
    response.close()
    return response.status, body


def _is_open(connection: ssl.SSLSocket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1) != b""
    except ssl.SSLWantReadError:
        return True
    except OSError:
        return False


def _run_wrk(command: list[str], cpu: int, environment: dict[str, str]) -> Load:
    text = _run_pinned(command, cpu, environment)
    figures = re.search(r"^figures (\d+) (\d+) (\d+) (\d+)$", text, re.MULTILINE)
    if not figures:
        raise Failed(f"wrk: {text.strip()[-200:]}")
    requests, micros, data, failures = (int(figure) for figure in figures.groups())
    return Load(requests, micros / 1e6, data, failures)


def _run_pinned(command: list[str], cpu: int, environment: dict[str, str]) -> str:
    done = subprocess.run(
        ["taskset", "-c", str(cpu), *command],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise Failed(f"{command[0]} ended with {done.returncode}: {done.stdout.strip()[-200:]}")
    return done.stdout
