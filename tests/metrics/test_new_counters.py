"""The counters of `Reactor.stats()` for protocols, TLS and groups, and its histograms of times."""

import time
from itertools import pairwise

import pytest
from wires import authority, client_context

import goev
from http_support import HttpClient, Keeps, get
from support import Client, eventually, held, on_poller, settle
from websocket_support import ClientPeer
from websocket_support import Echo as WebSocketEcho


def only(reactor):
    (stats,) = reactor.stats()
    return stats


def measuring(stack, factory, **options):
    """A server that measures, and its reactor."""
    reactor = stack.enter_context(goev.Reactor(1, stall_warning=None, measure=True))
    acceptor = goev.Acceptor(reactor, "127.0.0.1:0", factory, **options)
    reactor.start()
    return reactor, acceptor


class Statuses(goev.http.Connection):
    def on_request(self, request):
        status = int(request.path[1:])
        if status == 999:
            raise SystemError
        request.respond(status)


def test_answers_are_counted_by_the_class_of_their_status(start, stack, log):
    server = start(Statuses)
    client = HttpClient(stack, server)
    for status in (200, 204, 301, 404, 500, 503):
        assert client.ask(get(f"/{status}")).status == status
    assert only(server.reactor)["answers"] == {"1xx": 0, "2xx": 2, "3xx": 1, "4xx": 1, "5xx": 2, "other": 0}
    client.ask(get("/999"))
    HttpClient(stack, server).ask(b"nonsense\r\n\r\n")
    settle(server.reactor, 1)
    answers = only(server.reactor)["answers"]
    assert (answers["4xx"], answers["5xx"]) == (2, 3), "the answers that goev gives itself count as well"


def test_an_answer_counts_when_it_is_whole(start, stack, events):
    server = start(lambda: Keeps(events))
    client = HttpClient(stack, server)
    client.send(get("/0") + get("/1"))
    requests = [events.until("request")[1] for _ in range(2)]
    requests[1].respond(200)
    on_poller(server.reactor, requests[0].start)
    settle(server.reactor)
    assert only(server.reactor)["answers"]["2xx"] == 0
    on_poller(server.reactor, requests[0].end)
    settle(server.reactor)
    assert only(server.reactor)["answers"]["2xx"] == 2


def test_a_websocket_counts_once_and_its_handshake_as_an_answer(start, stack, events):
    server = start(lambda: WebSocketEcho(events))
    client = ClientPeer(stack, server)
    client.open()
    settle(server.reactor)
    stats = only(server.reactor)
    assert (stats["websockets"], stats["answers"]["1xx"]) == (1, 1)


def test_handshakes_of_tls_count_and_those_that_resume_a_session(stack):
    identity = authority().issue("localhost", "127.0.0.1", "::1")
    server_context = goev.tls.ServerContext(identity.chain, identity.key)
    reactor, acceptor = measuring(stack, goev.Connection, tls=server_context)
    context, session = client_context("TLSv1_2"), None
    for _ in range(3):
        with Client(acceptor.address) as client:
            tls = context.wrap_socket(client.socket, server_hostname="localhost", session=session)
            client.socket = tls
            session = tls.session
    with Client(acceptor.address) as client:
        client.send(b"no TLS at all\r\n")
        client.receive_all()
    eventually(lambda: sum(only(reactor)["handshakes_failed"].values()) == 1, "the failed one is counted")
    stats = only(reactor)
    assert (stats["handshakes"], stats["handshakes_resumed"], stats["accepted"]) == (3, 2, 3)


def test_messages_of_groups_count_for_each_member_and_for_each_that_is_behind(start):
    group = goev.Group()
    joined = []

    class Member(goev.Connection):
        def on_open(self):
            group.add(self)
            joined.append(self)

    server = start(Member, high_water=65536, send_buffer_size=65536)
    clients = [server.connect() for _ in range(3)]
    eventually(lambda: len(group) == 3, "all are members")
    group.send(b"x")
    settle(server.reactor)
    assert (only(server.reactor)["group_sent"], only(server.reactor)["group_skipped"]) == (3, 0)
    behind = next(member for member in joined if member.remote_address == clients[0].socket.getsockname())
    on_poller(server.reactor, behind.write, bytes(20_000_000))
    group.send(b"y")
    settle(server.reactor)
    assert (only(server.reactor)["group_sent"], only(server.reactor)["group_skipped"]) == (5, 1)


# --- histograms ---


def times(stats, name):
    """The number of times, and their sum."""
    histogram = stats["histograms"][name]
    return sum(count for _, count in histogram["classes"]), histogram["sum"]


def test_without_measure_there_is_no_histogram(reactor):
    assert only(reactor)["histograms"] == {}


def test_every_callback_and_every_batch_has_its_time(stack):
    reactor, _ = measuring(stack, goev.Connection)
    settle(reactor)
    with held(reactor):
        pass
    settle(reactor)
    eventually(lambda: times(only(reactor), "callback_seconds")[0] == only(reactor)["callbacks"], "all are over")
    stats = only(reactor)
    assert times(stats, "attach_seconds")[0] == stats["batches"]
    assert times(stats, "callback_seconds")[1] == pytest.approx(stats["python_time"], abs=1e-6)
    assert times(stats, "attach_seconds")[1] == pytest.approx(stats["attach_wait"], abs=1e-6)


def test_a_slow_callback_is_in_a_class_of_its_time(stack):
    reactor, _ = measuring(stack, goev.Connection)
    on_poller(reactor, time.sleep, 0.07)
    settle(reactor)
    classes = dict(only(reactor)["histograms"]["callback_seconds"]["classes"])
    assert sum(count for limit, count in classes.items() if 0.07 <= limit <= 4.194304) == 1, classes


def test_the_time_of_an_answer_lasts_until_it_is_given(stack, events):
    reactor, acceptor = measuring(stack, lambda: Keeps(events))
    client = stack.enter_context(Client(acceptor.address))
    client.send(get("/"))
    request = events.until("request")[1]
    time.sleep(0.1)
    assert times(only(reactor), "answer_seconds") == (0, 0)
    request.respond(200)
    eventually(lambda: times(only(reactor), "answer_seconds")[0] == 1, "it is counted")
    assert 0.1 <= times(only(reactor), "answer_seconds")[1] < 5
    client.send(b"nonsense\r\n\r\n")
    client.receive_all()
    assert times(only(reactor), "answer_seconds")[0] == 1, "a refused request has no time"
    assert sum(only(reactor)["answers"].values()) == 2


def test_limits_of_classes_double():
    reactor = goev.Reactor(1, measure=True)
    limits = [limit for limit, _ in only(reactor)["histograms"]["answer_seconds"]["classes"]]
    assert limits[0] == 1e-6
    assert limits[-2:] == [16.777216, float("inf")]
    assert all(after == 2 * before for before, after in pairwise(limits[:-1]))
    reactor.stop(0)


def test_bad_input_is_refused():
    with pytest.raises(TypeError, match="measure"):
        goev.Reactor(measure="yes")
