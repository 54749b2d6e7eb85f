"""The line server of the examples, by ``goev.testing``: no socket, no thread, no waiting."""

from test_examples import imported

import goev
import goev.testing

example = imported("lines")
Lines, LONGEST = example.Lines, example.LONGEST


def test_lines_come_back_in_capitals_with_their_number_wherever_the_stream_is_cut():
    stream = b"one\r\ntwo\n\nthree\n"
    for cut in range(len(stream)):
        peer = goev.testing.open(Lines())
        peer.receive(stream[:cut])
        peer.receive(stream[cut:])
        assert peer.sent() == b"hello\n1 ONE\n2 TWO\n3 \n4 THREE\n"


def test_quit_says_goodbye_and_closes():
    peer = goev.testing.open(Lines())
    peer.receive(b"quit\nnot read any more\n")
    assert peer.sent() == b"hello\nbye\n"
    assert peer.end == "finished"
    assert peer.close_error is None


def test_a_line_that_is_too_long_is_the_last_one():
    peer = goev.testing.open(Lines())
    peer.receive(b"x" * LONGEST + b"\n")
    assert peer.sent() == b"hello\n1 " + b"X" * LONGEST + b"\n"
    peer.receive(b"x" * (LONGEST + 1) + b"\n")
    assert peer.sent() == b"bye\n"
    assert peer.closed


def test_a_line_without_an_end_ends_the_connection():
    peer = goev.testing.open(Lines())
    peer.receive(b"x" * (LONGEST + 1000))
    assert isinstance(peer.close_error, goev.MessageTooLong)
