"""Redis Cluster: slots that move and primaries that die are noticed, and with history nothing is lost."""

import pytest
from redis.crc import key_slot

import goev
from certificates import Authority
from cluster_support import Machine, machines
from engines import RedisCluster, made
from goev.cluster import AccessDenied
from goev.cluster.connecting import backplane_of
from support import eventually

FRAMING = goev.LengthPrefixed()
CHANNEL = b"goev:g:room:42"
SLOT = key_slot(CHANNEL)


@pytest.fixture
def engine(tmp_path):
    running = made("redis-cluster", tmp_path)
    yield running
    running.close()


@pytest.fixture
def own(tmp_path):
    """A cluster that is no other test's."""
    running = RedisCluster(tmp_path)
    yield running
    running.close()


def members_of(machines, **options):
    groups = [machine.cluster.group("room:42", FRAMING, **options) for machine in machines]
    return groups, [machine.member(group) for machine, group in zip(machines, groups, strict=True)]


def numbers(first, last):
    return [b"%d" % number for number in range(first, last)]


def send(group, first, last):
    for message in numbers(first, last):
        group.send(message)


@pytest.mark.parametrize("options", [{}, {"history": 100}])
def test_a_slot_that_moves_is_noticed_and_messages_go_on(engine, options, log):
    source = engine.server_of(SLOT)
    target = next(server for server in engine.servers if server is not source)
    with machines(3, engine.url) as three:
        groups, members = members_of(three, **options)
        send(groups[0], 0, 10)
        for member in members:
            assert member.take(10) == numbers(0, 10)
        engine.move(SLOT, source, target)
        for machine in three:
            machine.states.until("down")
            machine.states.until("up")
        for machine in three:
            machine.settle()
        send(groups[1], 10, 20)
        for member in members:
            assert member.take(10) == numbers(10, 20)
            assert member.nothing(0.01)
    engine.move(SLOT, target, source)


def test_a_slot_that_moves_while_messages_flow_loses_and_repeats_none_with_history(engine, log):
    source = engine.server_of(SLOT)
    target = next(server for server in engine.servers if server is not source)
    with machines(3, engine.url) as three:
        groups, members = members_of(three, history=1000)
        send(groups[0], 0, 100)
        engine.move(SLOT, source, target)
        send(groups[0], 100, 200)
        engine.move(SLOT, target, source)
        send(groups[0], 200, 300)
        for member in members:
            assert member.take(300) == numbers(0, 300)
            assert member.nothing(0.01)


@pytest.mark.timeout(60)
def test_a_primary_that_dies_is_replaced_by_its_replica_and_nothing_is_lost_with_history(own, log):
    primary = own.server_of(SLOT)
    own.add_replica(primary)
    with machines(3, own.url) as three:
        groups, members = members_of(three, history=100)
        send(groups[0], 0, 10)
        for member in members:
            assert member.take(10) == numbers(0, 10)
        primary.kill()
        own.servers.remove(primary)
        for machine in three:
            machine.states.until("down")
        send(groups[1], 10, 20)
        for machine in three:
            eventually(lambda machine=machine: machine.cluster.is_ready, "the replica has taken over", 30)
        for member in members:
            assert member.take(10) == numbers(10, 20)
            assert member.nothing(0.01)
    primary.client.close()


def test_a_primary_that_dies_and_returns_is_noticed(own, stack, log):
    machine, other = (Machine(stack, own.url) for _ in range(2))
    (group, _), (here, there) = members_of((machine, other))
    server = own.server_of(SLOT)
    server.kill()
    for each in (machine, other):
        each.states.until("down")
    send(group, 0, 10)
    assert here.take(10) == numbers(0, 10)
    server.start()
    assert there.take(10) == numbers(0, 10)


@pytest.mark.parametrize(("names", "fits"), [(("localhost", "127.0.0.1"), True), (("localhost",), False)])
def test_tls_to_each_server_checks_its_name(tmp_path, stack, names, fits, log):
    authority = Authority()
    trusted = tmp_path / "ca.pem"
    trusted.write_bytes(authority.pem)
    chain, key = authority.issue(*names, purpose="both").files(tmp_path)
    files = ["--tls-cert-file", str(chain), "--tls-key-file", str(key), "--tls-ca-cert-file", str(trusted)]
    cluster = RedisCluster(tmp_path, *files, "--tls-auth-clients", "no", "--tls-cluster", "yes")
    stack.callback(cluster.close)
    url = f"rediss+cluster://localhost:{cluster.servers[0].secure_port}"
    if fits:
        two = [Machine(stack, url, ssl_ca_certs=str(trusted)) for _ in range(2)]
        groups, members = members_of(two, history=10)
        send(groups[0], 0, 10)
        for member in members:
            assert member.take(10) == numbers(0, 10)
    else:  # the servers name each other by their addresses
        with pytest.raises(AccessDenied, match="IP address mismatch"):
            goev.cluster.connect(url, ssl_ca_certs=str(trusted), timeout=60)
    with pytest.raises(AccessDenied, match="certificate verify failed"):
        goev.cluster.connect(url, timeout=60)


def test_each_server_leads_to_the_others_also_when_the_first_one_is_away(own, stack, log):
    url = [f"redis+cluster://127.0.0.1:{server.port}" for server in own.servers]
    own.servers[0].freeze()
    with pytest.raises(goev.cluster.Unreachable):
        goev.cluster.connect(url, timeout=0.5, answer_timeout=0.3)
    own.servers[0].thaw()
    own.wait_until_ok()
    with goev.cluster.connect(["redis+cluster://127.0.0.1:1", *url[1:]]) as cluster:
        assert cluster.is_ready


@pytest.mark.parametrize("subject", ["g:a", "g:{a}b", "{}", "%7Ba%7D", "{a", "}{"])
def test_a_channel_and_the_keys_of_its_history_have_one_slot(subject):
    from goev.cluster.backplanes.redis import keys_of

    channel = backplane_of("redis+cluster://127.0.0.1:1", {})._channel(subject)
    assert len({key_slot(each) for each in (channel, *keys_of(channel))}) == 1


def test_channels_of_two_subjects_differ():
    backplane = backplane_of("redis+cluster://127.0.0.1:1", {})
    subjects = ["{", "%7B", "%257B", "}", "%7D", "%"]
    assert len({backplane._channel(subject) for subject in subjects}) == len(subjects)


def test_a_server_that_is_in_no_cluster_says_so(tmp_path, stack, log):
    redis = made("redis", tmp_path)
    stack.callback(redis.close)
    with pytest.raises(goev.cluster.Unreachable, match="cluster support disabled"):
        goev.cluster.connect(redis.url.replace("redis:", "redis+cluster:"), timeout=0.5)
