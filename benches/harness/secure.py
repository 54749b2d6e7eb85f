"""Servers over TLS 1.3: requests, handshakes, transfers, idle connections, and a storm of new connections."""

import socket
import subprocess
import time
from functools import cache

from harness import Unavailable, certificate, http, measure, server, streams
from harness.measure import RUN_TIMEOUT, Bench, Run, run_program
from harness.peers import Peer
from harness.programs import Command
from harness.streams import per_byte

NEW_PER_SECOND = 1_000  # connections of a storm
PROBE = 16 << 20  # bytes of a transfer that the check looks at
FIRST_ONES = 32  # connections of the load that have no session to resume


def requests(bench: Bench, peer: Peer, connections: int, depth: int, kind: str = "") -> Run:
    """Requests per second by wrk, and the server's CPU time for each."""
    _show_session(*bench.programs.command("wrk"))
    with server.serve(_command(bench, peer, kind), http.TEXT.take, http.EXCHANGES, tls=True) as running:
        return measure.wrk(bench, running, connections, depth)


def handshakes(bench: Bench, peer: Peer, *, resumed: bool) -> Run:
    """Handshakes per second, and the server's CPU time for each; a request and its reply follow each of them."""
    load = bench.programs.command("churn")
    count = bench.effort.handshakes
    with server.serve(_command(bench, peer), http.TEXT.take, http.EXCHANGES, tls=True) as running:
        before = running.cpu_seconds()
        seen = run_program([*load, str(running.port), str(count), "resumed" if resumed else "full"])
        cpu = running.cpu_seconds() - before
    if seen["lost"]:
        raise Unavailable(f"{seen['lost']:.0f} connections were lost")
    if resumed and seen["resumed"] < count - FIRST_ONES:
        raise Unavailable(f"only {seen['resumed']:.0f} of {count:,} sessions were resumed")
    return {"handshakes": count / seen["seconds"], "handshake_cpu": cpu / count}


def download(bench: Bench, peer: Peer) -> Run:
    """Bytes per second of the download of a file, and the server's CPU time for each byte."""
    size = bench.effort.download_bytes
    load = bench.programs.command("download load")
    file = streams.make_file(size)
    with server.start([*_command(bench, peer, "transfer"), "--file", str(file)], tls=True) as running:
        streams.check_download(running, file, PROBE)
        before = running.cpu_seconds()
        seen = run_program([*load, str(running.port), "1", str(size), "tls"])
        return per_byte(seen, running.cpu_seconds() - before)


def upload(bench: Bench, peer: Peer) -> Run:
    """Bytes per second that a server reads of the body of a request, and its CPU time for each byte."""
    load = bench.programs.command("upload load")
    with server.start(_command(bench, peer, "transfer"), tls=True) as running:
        run_program([*load, str(running.port), str(PROBE)])
        before = running.cpu_seconds()
        seen = run_program([*load, str(running.port), str(bench.effort.download_bytes)])
        return per_byte(seen, running.cpu_seconds() - before)


def idle(bench: Bench, peer: Peer) -> Run:
    """Bytes by which the server grows for each connection that stays open after one reply."""
    load = bench.programs.command("churn")
    count = measure.idle_connections(bench)
    with server.serve(_command(bench, peer), http.TEXT.take, http.EXCHANGES, tls=True) as running:
        before = running.resident_bytes()
        command = [*load, str(running.port), str(count), "kept"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
            assert holder.stdout is not None
            if '"lost": 0,' not in holder.stdout.readline():
                raise Unavailable("connections were lost")
            time.sleep(measure.SETTLE_TIME)
            return {"bytes": (running.resident_bytes() - before) / count}


def storm(bench: Bench, peer: Peer) -> Run:
    """The slowest replies to pingers beside many new connections, and without them."""
    load = bench.programs.command("storm load")
    with server.serve(_command(bench, peer), http.TEXT.take, http.EXCHANGES, tls=True) as running:
        seen = run_program([*load, str(running.port), str(bench.effort.seconds), str(NEW_PER_SECOND)])
    return {
        "slower": seen["storm"] / seen["quiet"],
        "quiet_p99": seen["quiet"],
        "storm_p99": seen["storm"],
        "made": seen["made"],
    }


def _command(bench: Bench, peer: Peer, kind: str = "") -> Command:
    return [*bench.programs.command(f"{peer.program} {kind}".rstrip()), *peer.arguments]


@cache
def _show_session(wrk: str) -> None:
    """Prints once which TLS `wrk` speaks; Python's ssl is the server. Every other version is an error."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(RUN_TIMEOUT)
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/"
        with subprocess.Popen([wrk, "-t", "1", "-c", "1", "-d", "60", url], stdout=subprocess.DEVNULL) as client:
            try:
                listener.accept()[0].close()  # wrk connects once to see whether it can
                with certificate.server_context().wrap_socket(listener.accept()[0], server_side=True) as connection:
                    version, cipher = connection.version(), connection.cipher()
            except OSError as error:
                raise Unavailable("wrk shook no hands with Python's ssl", str(error)) from error
            finally:
                client.kill()
    print(f"wrk speaks {version} with {cipher[0] if cipher else None}", flush=True)
    if version != "TLSv1.3":
        raise Unavailable(f"wrk speaks {version} instead of TLS 1.3")
