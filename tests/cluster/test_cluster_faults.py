"""Engines that refuse, hang, cut and vanish: clear errors, nothing lost silently, and the cluster goes on."""

import contextlib
import socket
import ssl
import subprocess
import threading

import pytest

import goev
from certificates import Authority
from cluster_support import Machine, machines
from cutting import Cutter
from engines import NatsServer, Redis, made
from goev.cluster import AccessDenied, HistoryUnavailable, Unreachable
from real_servers import free_port
from support import PATIENCE, eventually, in_thread, need, on_poller, run_script

FRAMING = goev.LengthPrefixed()


@pytest.fixture(params=["nats", "redis"])
def engine(request, tmp_path):
    running = made(request.param, tmp_path)
    yield running
    running.close()


def numbers(first, last):
    return [b"%d" % number for number in range(first, last)]


def rooms(machines, **options):
    return [machine.cluster.group("room:42", FRAMING, **options) for machine in machines]


# ---- engines that refuse ---------------------------------------------------------------------------------------------


def test_a_wrong_password_is_an_error_at_once_that_does_not_show_it(tmp_path, stack, log):
    nats = NatsServer(tmp_path, "--user", "ada", "--pass", "right")
    stack.callback(nats.close)
    redis = Redis(tmp_path)
    stack.callback(redis.close)
    assert redis.ask(b"CONFIG SET requirepass right") == b"+OK"
    for scheme, port in (("nats", nats.port), ("redis", redis.port)):
        user = "ada" if scheme == "nats" else ""
        for secret in (f"{user}:wrong@", ""):
            with pytest.raises(AccessDenied, match="refuses this program") as caught:
                goev.cluster.connect(f"{scheme}://{secret}127.0.0.1:{port}", timeout=60)
            assert "wrong" not in str(caught.value)
        machine = Machine(stack, f"{scheme}://{user}:right@127.0.0.1:{port}")
        assert "right" not in repr(machine.cluster)


@pytest.mark.parametrize(("name", "fits"), [("localhost", True), ("example.org", False)])
def test_tls_to_nats_checks_the_name_and_the_authority(tmp_path, stack, name, fits, log):
    authority = Authority()
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    chain, key = authority.issue(name).files(tmp_path)
    trusting = ssl.create_default_context(cafile=tmp_path / "ca.pem")
    server = NatsServer(tmp_path, "--tls", "--tlscert", str(chain), "--tlskey", str(key))
    stack.callback(server.close)
    url = f"tls://localhost:{server.port}"
    if fits:
        Machine(stack, url, tls=trusting)
    else:
        with pytest.raises(AccessDenied, match=r"certificate verify failed: Hostname mismatch"):
            goev.cluster.connect(url, tls=trusting, timeout=60, answer_timeout=60)
    with pytest.raises(AccessDenied, match="certificate verify failed"):
        goev.cluster.connect(url, timeout=60, answer_timeout=60)


@pytest.mark.parametrize(("name", "fits"), [("localhost", True), ("example.org", False)])
def test_tls_to_redis_checks_the_name_and_the_authority(tmp_path, stack, name, fits, log):
    authority = Authority()
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    chain, key = authority.issue(name).files(tmp_path)
    port, trusted = free_port(), str(tmp_path / "ca.pem")
    command = [need("redis-server"), "--port", "0", "--tls-port", str(port), "--save", "", "--tls-auth-clients", "no"]
    files = ["--tls-cert-file", str(chain), "--tls-key-file", str(key), "--tls-ca-cert-file", trusted]
    process = subprocess.Popen([*command, *files], stdout=subprocess.DEVNULL, cwd=tmp_path)
    stack.callback(lambda: (process.kill(), process.wait()))
    url = f"rediss://localhost:{port}"
    if fits:
        Machine(stack, url, ssl_ca_certs=trusted)
    else:
        eventually(lambda: answers(port), "redis-server answers")
        with pytest.raises(AccessDenied, match="Hostname mismatch"):
            goev.cluster.connect(url, ssl_ca_certs=trusted, timeout=60)
    with pytest.raises(AccessDenied, match="certificate verify failed"):
        goev.cluster.connect(url, timeout=60)


def answers(port):
    with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("localhost", port)):
        return True


def test_nats_without_jetstream_has_no_history_and_says_so(tmp_path, stack, log):
    server = NatsServer(tmp_path, jetstream=False)
    stack.callback(server.close)
    machine = Machine(stack, server.url)
    with pytest.raises(HistoryUnavailable, match=r"NATS needs JetStream \(-js\)"):
        machine.cluster.group("room", FRAMING, history=5)
    member = machine.member(machine.cluster.group("other", FRAMING))
    Machine(stack, server.url).cluster.group("other", FRAMING).send(b"hello")
    assert member.next() == b"hello"


@pytest.mark.parametrize("scheme", ["nats", "redis"])
def test_a_missing_client_names_the_extra(scheme):
    script = f"""
    import sys
    sys.modules[{scheme!r}] = None
    import goev
    try:
        goev.cluster.connect("{scheme}://127.0.0.1:1")
    except ModuleNotFoundError as error:
        print(error)
    """
    assert f"pip install 'goev[{scheme}]'" in run_script(script)


def test_a_bare_import_takes_no_client_and_no_cluster():
    script = """
    import sys, goev
    goev.Group()
    print(sorted({name.partition(".")[0] for name in sys.modules} & {"nats", "redis", "asyncio"}))
    print("goev.cluster" in sys.modules)
    goev.cluster.connect().close()
    print(sorted({name.partition(".")[0] for name in sys.modules} & {"nats", "redis"}))
    """
    assert run_script(script).splitlines()[1:] == ["False", "[]"]


# ---- engines that hang and vanish ------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["nats", "redis"])
def test_an_engine_that_accepts_and_never_answers_is_an_error(scheme, log):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"{scheme}://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(Unreachable, match=r"did not answer within 0\.2 s|timeout|Timeout"):
            goev.cluster.connect(url, timeout=1, answer_timeout=0.2)


def test_an_engine_that_hangs_is_noticed_and_nothing_is_lost_with_history(engine, log):
    with machines(2, engine.url, ping=0.1, answer_timeout=0.3) as made:
        groups = rooms(made, history=100)
        members = [machine.member(group) for machine, group in zip(made, groups, strict=True)]
        groups[0].send(b"0")
        assert [member.next() for member in members] == [b"0", b"0"]
        engine.freeze()
        for machine in made:
            machine.states.until("down")
        for number in range(1, 20):
            groups[0].send(b"%d" % number)
        assert members[0].take(19) == numbers(1, 20)
        engine.thaw()
        assert members[1].take(19) == numbers(1, 20)
        assert all(member.nothing() for member in members)


def test_an_engine_that_hangs_amid_a_flood_is_noticed_and_left(engine, home, log):
    with machines(1, engine.url, home=home, answer_timeout=0.3) as [machine]:
        engine.freeze()
        for _ in range(40):
            machine.cluster.group("room").send(bytes(400_000))
        machine.states.until("down")
        in_thread(machine.cluster.close, 0.1).result(PATIENCE)
        assert machine.cluster.state == "closed"


@pytest.mark.parametrize("amid", ["a flood", "nothing"])
def test_a_reactor_leaves_an_engine_that_hangs(engine, amid, log):
    with goev.Reactor(1, asyncio=True) as reactor:
        reactor.start()
        cluster = goev.cluster.connect(engine.url, reactor=reactor)
        engine.freeze()
        for _ in range(40 if amid == "a flood" else 0):
            cluster.group("room").send(bytes(400_000))
        on_poller(reactor, lambda: None)
        reactor.stop(0)
        reactor.join()
        assert cluster.state == "closed"


def test_of_several_servers_one_that_answers_is_used(engine, stack):
    dead = f"{engine.url.partition(':')[0]}://127.0.0.1:1"
    one, two = (Machine(stack, [dead, engine.url]) for _ in range(2))
    member = two.member(two.cluster.group("room", FRAMING))
    one.cluster.group("room", FRAMING).send(b"hello")
    assert member.next() == b"hello"


def test_an_engine_that_is_killed_and_started_again_and_again(engine, log):
    with machines(3, engine.url) as made:
        groups = rooms(made)
        members = [machine.member(group, meta=n) for n, (machine, group) in enumerate(zip(made, groups, strict=True))]
        for round_ in range(3):
            engine.kill()
            for machine in made:
                machine.states.until("down")
            groups[round_].send(b"%d" % round_)
            engine.start()
            for member in members:
                assert member.next() == b"%d" % round_
        for group in groups:
            eventually(lambda group=group: group.count() == 3, "all are known")
        assert all(member.nothing(0.01) for member in members)


# ---- links that are cut ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["cut", "freeze"])
def test_a_machine_behind_a_broken_link_goes_on_and_catches_up(engine, stack, way, log):
    cutter = stack.enter_context(Cutter(engine.port))
    scheme = engine.url.partition(":")[0]
    options = {"ping": 0.1, "answer_timeout": 0.5, "ttl": 60.0}
    near = Machine(stack, engine.url, **options)
    far = Machine(stack, f"{scheme}://127.0.0.1:{cutter.port}", **options)
    groups = rooms([near, far], history=1_000)
    members = [machine.member(group) for machine, group in zip([near, far], groups, strict=True)]
    groups[0].send(b"0")
    assert [member.next() for member in members] == [b"0", b"0"]
    getattr(cutter, way)()
    far.states.until("down")
    for number in range(1, 200):
        groups[0].send(b"%d" % number)
    for number in range(200, 220):
        groups[1].send(b"%d" % number)
    assert members[0].take(199) == numbers(1, 200)
    assert members[1].take(20) == numbers(200, 220), "own messages do not wait"
    assert near.cluster.is_ready
    cutter.heal()
    assert members[1].take(199) == numbers(1, 200)
    assert members[0].take(20) == numbers(200, 220)
    assert all(member.nothing() for member in members)


def test_a_link_that_is_cut_while_messages_flow_loses_and_repeats_none_with_history(engine, stack, log):
    cutter = stack.enter_context(Cutter(engine.port))
    scheme = engine.url.partition(":")[0]
    url = f"{scheme}://127.0.0.1:{cutter.port}"
    sender, receiver = (Machine(stack, url, ping=0.2) for _ in range(2))
    groups = rooms([sender, receiver], history=10_000)
    member = receiver.member(groups[1])
    stop = threading.Event()

    def flow():
        number = 0
        while not stop.wait(0.0005):
            groups[0].send(b"%d" % number)
            number += 1
        return number

    flowing = in_thread(flow)
    got = []
    for _ in range(5):
        got += member.take(50)
        cutter.cut()
        cutter.heal()
    stop.set()
    count = flowing.result(PATIENCE)
    got += member.take(count - len(got))
    assert got == numbers(0, count)
    assert member.nothing()


# ---- slow and hostile ------------------------------------------------------------------------------------------------


def test_a_machine_that_reads_too_slowly_is_cut_by_redis_and_catches_up(tmp_path, stack, log):
    redis = Redis(tmp_path)
    stack.callback(redis.close)
    assert redis.ask(b'CONFIG SET client-output-buffer-limit "pubsub 4194304 4194304 1"') == b"+OK"
    slow, quick = (Machine(stack, redis.url, outbox=1 << 26) for _ in range(2))
    groups = rooms([slow, quick], history=500)
    member = slow.peer(lambda peer: (peer.set_limits(high_water=1 << 26, max_output=1 << 27), groups[0].add(peer)))
    slow.settle()
    held, release = threading.Event(), threading.Event()
    stack.callback(release.set)
    slow.cluster._home.post(lambda: (held.set(), release.wait(PATIENCE)))
    assert held.wait(PATIENCE)
    for number in range(300):
        groups[1].send(b"%03d" % number + bytes(100_000))
    quick.has(sent=300)
    release.set()
    assert [message[:3] for message in member.take(300)] == [b"%03d" % number for number in range(300)]
    slow.states.until("down")
    assert member.nothing()


def test_a_message_that_the_engine_refuses_is_told_and_the_next_ones_go_on(tmp_path, stack, log):
    config = tmp_path / "nats.conf"
    config.write_text("max_payload: 1000\n")
    server = NatsServer(tmp_path / "store", "-c", str(config))
    stack.callback(server.close)
    one, two = Machine(stack, server.url), Machine(stack, server.url)
    for history in (0, 5):
        groups = [machine.cluster.group(f"room{history}", FRAMING, history=history) for machine in (one, two)]
        member = two.member(groups[1])
        groups[0].send(bytes(1_500))
        groups[0].send(b"small")
        assert member.next() == b"small"
        assert "more than the server's max_payload of 1000" in log.next()[1]
    one.has(refused=2)


def test_redis_without_memory_refuses_a_message_and_says_so(tmp_path, stack, log):
    redis = Redis(tmp_path)
    stack.callback(redis.close)
    machine = Machine(stack, redis.url)
    group = rooms([machine], history=10)[0]
    assert redis.ask(b"CONFIG SET maxmemory 1") == b"+OK"
    group.send(b"hello")
    machine.has(refused=1)
    assert "maxmemory" in log.next()[1]


# ---- processes -------------------------------------------------------------------------------------------------------


def test_a_program_ends_with_an_open_cluster(engine):
    script = f"""
    import goev
    cluster = goev.cluster.connect({engine.url!r})
    room = cluster.group("room")
    room.send(b"hello")
    print("the end")
    """
    assert run_script(script) == "the end"


def test_a_forked_child_cannot_use_the_cluster_and_the_parent_goes_on(engine, stack):
    script = f"""
    import os, sys, goev
    cluster = goev.cluster.connect({engine.url!r})
    room = cluster.group("room")
    pid = os.fork()
    if not pid:
        try:
            room.send(b"hello")
            cluster.tell("x", b"y")
        except RuntimeError as error:
            os.write(1, str(error).encode() + b"\\n")
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    room.send(b"hello")
    cluster.close()
    print(cluster.stats()["sent"])
    """
    lines = run_script(script).splitlines()
    assert "os.fork()" in lines[0]
    assert lines[1] == "1"
