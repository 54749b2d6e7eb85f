"""A process that connects may be interrupted, fork, and run out of descriptors."""

from connector_support import DIALS
from support import Child, run_script


def test_ctrl_c_ends_a_run_that_is_connecting(stack):
    child = stack.enter_context(
        Child.running("""
        import socket
        import goev

        class Dials(goev.Connection):
            def on_connect_fail(self, error):
                print(type(error).__name__)

        listener = socket.create_server(("127.0.0.1", 0), backlog=0)
        fillers = []
        for _ in range(10):
            filler = socket.socket()
            fillers.append(filler)
            filler.settimeout(0.2)
            try:
                filler.connect(listener.getsockname())
            except TimeoutError:
                break
        reactor = goev.Reactor(pollers=1)
        goev.connect(reactor, "127.0.0.1:%d" % listener.getsockname()[1], Dials(), timeout=60.0)
        reactor.call_soon(print, "running")
        try:
            reactor.run(signals=False)
        except KeyboardInterrupt:
            print("interrupted")
        """)
    )
    assert child.line() == "running"
    child.interrupt()
    assert child.line() == "ConnectionAbortedError"
    assert child.line() == "interrupted"
    assert child.end() == 0


def test_ctrl_c_ends_a_run_whose_handlers_connect_again_at_once(stack):
    child = stack.enter_context(
        Child.running("""
        import socket
        import goev

        class Retries(goev.Connection):
            def on_connect_fail(self, error):
                connector.connect(f"127.0.0.1:{port}", self)

        bound = socket.socket()
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        reactor = goev.Reactor(pollers=1)
        connector = goev.Connector(reactor)
        connector.connect(f"127.0.0.1:{port}", Retries())
        reactor.schedule(0.1, lambda: print("running"))
        try:
            reactor.run(signals=False)
        except KeyboardInterrupt:
            print("interrupted")
        """)
    )
    assert child.line() == "running"
    child.interrupt()
    assert child.line(3.0) == "interrupted"
    child.end()


def test_after_a_fork_the_child_cannot_connect_and_the_parent_can():
    run_script(
        DIALS
        + """
    import traceback
    warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads is the subject of this test
    listener, port = listening()
    target = f"127.0.0.1:{port}"
    with goev.Reactor(pollers=1) as reactor:
        reactor.start()
        connector, handler = goev.Connector(reactor, linger_timeout=0), Dials()
        connector.connect(target, Dials())
        assert next()[0] == "open"
        pid = os.fork()
        if pid == 0:
            try:
                for call in (lambda: connector.connect(target, handler),
                             lambda: goev.connect(reactor, target, handler), lambda: goev.Connector(reactor)):
                    try:
                        call()
                    except RuntimeError as error:
                        assert "fork" in str(error), error
                    else:
                        raise AssertionError("it did not raise")
                with goev.Reactor(pollers=1) as own:
                    own.start()
                    goev.Connector(own, linger_timeout=0).connect(f"localhost:{port}", handler)  # it is unused
                    assert next()[0] == "open"
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        connector.connect(f"localhost:{port}", handler)
        assert next()[0] == "open"
    """
    )


def test_out_of_descriptors_a_connect_fails_with_errno_and_later_ones_work():
    run_script(
        DIALS
        + """
    import resource
    listener, port = listening()
    with goev.Reactor(pollers=1) as reactor:
        reactor.start()
        connector = goev.Connector(reactor, linger_timeout=0)
        connector.connect(f"127.0.0.1:{port}", Dials())
        assert next()[0] == "open"
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) - 1, limit[1]))
        connector.connect([f"127.0.0.1:{port}"] * 3, Dials())
        name, error, _ = next()
        assert (name, error.errno) == ("fail", errno.EMFILE), error
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
        connector.connect(f"127.0.0.1:{port}", Dials())
        assert next()[0] == "open"
    """
    )
