"""Objects of the user's that change while goev walks them: an error of that call, never a panic."""

import pytest

import goev
import goev.http
import goev.testing


class Grows(str):
    """A text whose encoding adds a key to the dict that it is in."""

    def encode(self, *_):
        self.holder[f"x-{len(self.holder)}"] = "more"
        return b"\xe9"


def growing(plain=()):
    headers = dict.fromkeys(plain, "plain")
    text = Grows("\xe9")
    text.holder = headers
    headers["grows"] = text
    return headers


class Answers(goev.http.Connection):
    """Answers ``/bad`` with headers that change, and everything else well."""

    method = "respond"

    def __init__(self):
        self.errors = []

    def on_request(self, request):
        if request.path == "/bad":
            try:
                getattr(request, self.method)(200, growing("ab"))
            except RuntimeError as error:
                self.errors.append(str(error))
                raise
        request.respond(200, {}, b"fine")


@pytest.mark.parametrize("method", ["respond", "start"])
def test_headers_that_change_size_while_they_are_read_fail_that_request(method, log):
    handler = Answers()
    handler.method = method
    peer = goev.testing.open(handler)
    assert peer.ask("GET").status == 200
    assert peer.ask("GET", "/bad").status == 500
    assert handler.errors == ["headers changed size while they were read"]
    # The reactor serves on.
    assert goev.testing.open(Answers()).ask("GET").status == 200


class Index:
    """An integer that adds a keyword argument when it is looked at."""

    def __index__(self):
        import gc

        for holder in gc.get_referrers(self):
            if type(holder) is dict and "backlog" in holder:
                holder["nodelay"] = True
        return 10


def test_keyword_arguments_that_change_are_an_error_of_the_call():
    reactor = goev.Reactor()
    with pytest.raises(RuntimeError, match="keyword arguments changed size"):
        goev.Acceptor(reactor, "127.0.0.1:0", goev.Connection, backlog=Index(), reuse_port=False)


def test_lists_that_change_while_they_are_walked_are_walked_to_their_end():
    class Shrinks(str):
        def encode(self, *_):
            pairs.clear()
            return b"\xe9"

    pairs = [("a", Shrinks("\xe9")), ("b", "c")]

    class Handler(goev.http.Connection):
        def on_request(self, request):
            request.respond(200, pairs, b"")

    peer = goev.testing.open(Handler())
    assert peer.ask("GET").headers["a"] == "\xe9"
