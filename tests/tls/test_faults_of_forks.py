"""After os.fork() the child says nothing on its parent's connections, and the records of both sides go on in order."""

import pytest

from support import run_script

PROGRAM = """
    import gc, os, signal, socket, ssl, sys, warnings
    import goev

    warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads is the subject of this test
    certificate, key, authority, how = sys.argv[1:]

    class Echo(goev.Connection):
        made, closed = [], []
        def on_open(self):
            Echo.made.append(self)
        def on_read(self):
            self.write(self.read())
        def on_close(self, error):
            Echo.closed.append(error)

    def in_child():
        if how == "collected":
            # The child drops all it can reach, connections with output among it.
            global reactor, acceptor
            Echo.made.clear()
            reactor = acceptor = None
            gc.collect()
        elif how == "used":
            for call in (lambda: Echo.made[0].write(b"child"), Echo.made[0].close, Echo.made[0].abort, reactor.stop):
                try:
                    call()
                except (RuntimeError, goev.Error):
                    pass

    reactor = goev.Reactor(pollers=1)
    acceptor = goev.Acceptor(reactor, "127.0.0.1:0", Echo, tls=goev.tls.ServerContext(certificate, key))
    reactor.start()
    trusting = ssl.create_default_context(cafile=authority)
    clients = []
    for _ in range(3):
        raw = socket.create_connection(acceptor.address, 10)
        client = trusting.wrap_socket(raw, server_hostname="localhost", suppress_ragged_eofs=False)
        client.sendall(b"before")
        assert client.recv(100) == b"before"
        clients.append(client)
    for _ in range(3):
        pid = os.fork()
        if pid == 0:
            in_child()
            if how == "exits":
                sys.exit()
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        for client in clients:
            for turn in range(3):
                client.sendall(b"x" * 20_000)
                got = b""
                while len(got) < 20_000:
                    got += client.recv(65536)
                assert got == b"x" * 20_000
    # Our last word is said though the child may hold copies of the sockets.
    pid = os.fork()
    if pid == 0:
        signal.pause()
    for connection in list(Echo.made):
        connection.close()
    for client in clients:
        assert client.recv(100) == b"", "an orderly end"
        client.close()
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    reactor.stop()
    reactor.join(10)
    assert Echo.closed == [None] * 3, Echo.closed
    print("done")
"""


@pytest.mark.parametrize("how", ["ends", "exits", "collected", "used"])
def test_a_child_is_not_noticed(identity, root, tmp_path, how):
    """It ends at once or through the interpreter's exit, it drops all it can reach, or uses what it may not."""
    authority = tmp_path / "ca.pem"
    authority.write_bytes(root.pem)
    assert run_script(PROGRAM, *map(str, identity.files(tmp_path)), str(authority), how, timeout=30) == "done"
