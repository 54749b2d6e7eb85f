"""A malformed request is refused in one answer, and the connection ends. By RFC 9110 and RFC 9112.

The id of a row begins with the RFC and section it comes from. "ours" marks a row where the RFC leaves the choice, or
says nothing, and this is the choice.
"""

import pytest

import goev
from http_support import chunked, get
from malformed_support import (
    CLIENT_HELLO,
    LIMITS,
    NEXT,
    Notes,
    chunks,
    coded,
    ended_for_it,
    hosts,
    is_refused,
    line,
    lines,
    sized,
    table,
)
from support import Events, settle

# Rows that are wrong before any body: status, what is sent, why.
HEADS = [
    # --- the request line ---
    (400, line(b" / HTTP/1.1"), "9112-3 empty method"),
    (400, line(b"G@T / HTTP/1.1"), "9110-9.1 method is a token: at sign"),
    (400, line(b"GE(T / HTTP/1.1"), "9110-9.1 method is a token: parenthesis"),
    (400, line(b"G\xc9T / HTTP/1.1"), "9110-9.1 method is a token: a byte above 0x7f"),
    (400, line(b"GET\x00 / HTTP/1.1"), "9110-9.1 method is a token: NUL"),
    (400, line(b"GET  / HTTP/1.1"), "9112-3 two spaces before the target (ours: refused, not repaired)"),
    (400, line(b"GET /  HTTP/1.1"), "9112-3 two spaces behind the target (ours)"),
    (400, line(b"GET / HTTP/1.1 "), "9112-3 a space behind the version (ours)"),
    (400, line(b" GET / HTTP/1.1"), "9112-3 a space before the method (ours)"),
    (400, line(b"GET\t/ HTTP/1.1"), "9112-3 a tab for the first space (ours)"),
    (400, line(b"GET /\tHTTP/1.1"), "9112-3 a tab for the second space (ours)"),
    (400, line(b"GET\x0b/\x0bHTTP/1.1"), "9112-3 vertical tabs for the spaces (ours)"),
    (400, line(b"GET /a b HTTP/1.1"), "9112-3.2 a space in the target"),
    (400, line(b"GET /a\tb HTTP/1.1"), "9112-3.2 a tab in the target"),
    (400, line(b"GET /a\x00b HTTP/1.1"), "9112-3.2 NUL in the target"),
    (400, line(b"GET /a\x1fb HTTP/1.1"), "9112-3.2 a control byte in the target"),
    (400, line(b"GET /a\x7fb HTTP/1.1"), "9112-3.2 DEL in the target"),
    (400, line("GET /é HTTP/1.1".encode()), "9112-3.2 UTF-8 in the target"),
    (400, line(b"GET /\xe9 HTTP/1.1"), "9112-3.2 latin-1 in the target"),
    (400, line(b"GET /a#b HTTP/1.1"), "9112-3.2 a fragment"),
    (400, line(b"GET /%zz HTTP/1.1"), "3986-2.1 a percent sign without two hex digits (ours)"),
    (400, line(b"GET /a% HTTP/1.1"), "3986-2.1 a percent sign at the end (ours)"),
    (400, line(b"GET a HTTP/1.1"), "9112-3.2.1 origin-form begins with a slash"),
    (400, line(b"GET ?a=b HTTP/1.1"), "9112-3.2.1 a query alone"),
    (400, line(b"GET http:///a HTTP/1.1"), "9110-4.2.1 absolute-form with an empty host"),
    (400, line(b"GET a:80 HTTP/1.1"), "9112-3.2.3 authority-form is for CONNECT only"),
    (400, line(b"GET http://:80/a HTTP/1.1"), "9110-4.2.1 absolute-form with a port and no host"),
    (400, line(b"GET http://a%zz/ HTTP/1.1"), "3986-2.1 a percent sign without two hex digits in the host"),
    (400, line(b"GET http://[:::::]/ HTTP/1.1"), "3986-3.2.2 absolute-form with no such IPv6 address"),
    (400, line(b"GET http://[fe80::1%25eth0]/ HTTP/1.1"), "6874-4 a zone, which means nothing here"),
    (400, line(b"CONNECT [:::::]:80 HTTP/1.1"), "3986-3.2.2 CONNECT to no such IPv6 address"),
    (400, line(b"CONNECT a%zz:80 HTTP/1.1"), "3986-2.1 CONNECT to a percent sign without two hex digits"),
    (400, line(b"CONNECT /a HTTP/1.1"), "9112-3.2.3 CONNECT takes authority-form only"),
    (400, line(b"CONNECT a HTTP/1.1"), "9112-3.2.3 CONNECT without a port"),
    (400, line(b"CONNECT a: HTTP/1.1"), "9110-9.3.6 CONNECT with an empty port"),
    (400, line(b"CONNECT a:99999 HTTP/1.1"), "9110-9.3.6 CONNECT with no such port"),
    (400, line(b"GET * HTTP/1.1"), "9112-3.2.4 asterisk-form is for OPTIONS only"),
    (400, line(b"OPTIONS ** HTTP/1.1"), "9112-3.2.4 asterisk-form is one asterisk"),
    (400, line(b"GET"), "9112-3 a method alone"),
    (400, line(b"GET /"), "9112-3 no version, as in HTTP/0.9"),
    (400, line(b"GET / "), "9112-3 an empty version"),
    (400, line(b"GET HTTP/1.1"), "9112-3 no target"),
    (400, line(b"GET / HTTP/1.10"), "9112-2.3 two digits behind the dot"),
    (400, line(b"GET / HTTP/11.1"), "9112-2.3 two digits before the dot"),
    (400, line(b"GET / HTTP/1"), "9112-2.3 no minor version"),
    (400, line(b"GET / HTTP/1."), "9112-2.3 an empty minor version"),
    (400, line(b"GET / HTTP/1,1"), "9112-2.3 a comma for the dot"),
    (400, line(b"GET / HTTP/+1.1"), "9112-2.3 a sign"),
    (400, line(b"GET / http/1.1"), "9112-2.3 the name is case-sensitive"),
    (400, line(b"GET / HTTPS/1.1"), "9112-2.3 another name"),
    (400, line(b"GET / HTTP 1.1"), "9112-2.3 a space for the slash"),
    (505, line(b"GET / HTTP/2.0"), "9110-15.6.6 a higher major version"),
    (505, line(b"GET / HTTP/9.9"), "9110-15.6.6 a major version nobody knows"),
    (505, line(b"GET / HTTP/0.9"), "9110-15.6.6 a lower major version"),
    (414, line(b"GET /" + b"a" * 150 + b" HTTP/1.1"), "9112-3 a line over max_line: target"),
    (414, line(b"A" * 150 + b" / HTTP/1.1"), "9112-3 a line over max_line: method (ours: not 501)"),
    (414, b"GET /" + b"a" * 1000, "9112-3 a line over max_line that never ends"),
    (400, b"\r\n\x00", "9112-2.2 NUL behind the empty line"),
    (400, CLIENT_HELLO, "9112-3 TLS"),
    (400, b"\x00\xff\r\n\r\n", "9112-3 binary"),
    (400, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "9112-2.1 an answer"),
    # --- the ends of lines ---
    (400, b"GET / HTTP/1.1\nHost: a\r\n\r\n", "9112-2.2 bare LF ends the request line (ours)"),
    (400, b"GET / HTTP/1.1\r\nHost: a\n\r\n", "9112-2.2 bare LF ends a field (ours)"),
    (400, b"GET / HTTP/1.1\r\nHost: a\r\n\n", "9112-2.2 bare LF ends the head (ours)"),
    (400, b"GET / HTTP/1.1\nHost: a\n\n", "9112-2.2 bare LF everywhere (ours)"),
    (400, b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "9112-2.2 bare LF as empty line before (ours)"),
    (400, b"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", "9112-2.2 bare CR before"),
    (400, b"GET / HTTP/1.1\rHost: a\r\n\r\n", "9112-2.2 bare CR ends the request line"),
    (400, b"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", "9112-2.2 two CR end the request line"),
    (400, lines(b"X: a\rb"), "9112-2.2 bare CR in a value"),
    (400, lines(b"X: a\r"), "9112-2.2 two CR end a field"),
    (400, lines(b"X: a\nY: b"), "9112-2.2 bare LF in a value"),
    (400, lines(b"X: a\rTransfer-Encoding: chunked"), "9112-11.1 bare CR hides a field"),
    (400, b"GET / HTTP/1.1\r\nHost: a\r\n\r\r\n", "9112-2.2 a bare CR before the end of the head"),
    (400, lines(b"X: a", b" b"), "9112-5.2 a folded value (ours: refused, not replaced)"),
    (400, lines(b"X: a", b"\tb"), "9112-5.2 a value folded with a tab (ours)"),
    (400, lines(b"X: a", b" "), "9112-5.2 a line of one space (ours)"),
    (400, lines(b"Transfer-Encoding:", b" chunked"), "9112-5.2 a folded Transfer-Encoding (ours)"),
    (400, b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", "9112-2.2 a space before the first field (ours)"),
    (400, b"GET / HTTP/1.1\r\n\tX: a\r\nHost: a\r\n\r\n", "9112-2.2 a tab before the first field (ours)"),
    # --- fields ---
    (400, lines(b"X : a"), "9112-5.1 a space before the colon"),
    (400, lines(b"X\t: a"), "9112-5.1 a tab before the colon"),
    (400, lines(b": a"), "9110-5.1 an empty name"),
    (400, lines(b"nonsense"), "9112-5 no colon"),
    (400, lines(b"X Y: a"), "9110-5.1 a space in a name"),
    (400, lines(b"X(Y): a"), "9110-5.1 parentheses in a name"),
    (400, lines(b'"X": a'), "9110-5.1 quotes in a name"),
    (400, lines(b"X\x00: a"), "9110-5.1 NUL in a name"),
    (400, lines(b"X\x7f: a"), "9110-5.1 DEL in a name"),
    (400, lines(b"X\xe9: a"), "9110-5.1 latin-1 in a name"),
    (400, lines(b"X: a\x00b"), "9110-5.5 NUL in a value"),
    (400, lines(b"X: a\x01b"), "9110-5.5 a control byte in a value (ours)"),
    (400, lines(b"X: a\x0bb"), "9110-5.5 a vertical tab in a value (ours)"),
    (400, lines(b"X: a\x1b[31mb"), "9110-5.5 an escape sequence in a value (ours)"),
    (400, lines(b"X: a\x7fb"), "9110-5.5 DEL in a value (ours)"),
    (431, lines(*(b"X-%d: a" % n for n in range(10))), "6585-5 fields over max_headers, Host is one"),
    (431, lines(*(b"X-%d: " % n + b"a" * 90 for n in range(8))), "6585-5 a head over max_head"),
    (431, b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: aaaaaaaaaaaaaaaaaaaaaaa\r\n" * 100, "6585-5 a head that never ends"),
    # --- Host ---
    (400, hosts(), "9112-3.2 no Host"),
    (400, b"GET http://a/ HTTP/1.1\r\n\r\n", "9112-3.2 no Host beside absolute-form"),
    (400, hosts(b"Host: a", b"Host: b"), "9112-3.2 two Hosts"),
    (400, hosts(b"Host: a", b"host: a"), "9112-3.2 the same Host twice"),
    (400, hosts(b"Host: a", b"Host: a", version=b"1.0"), "9112-3.2 two Hosts in HTTP/1.0"),
    (400, hosts(b"Host: a b"), "9110-7.2 a space in Host"),
    (400, hosts(b"Host: a/b"), "9110-7.2 a path in Host"),
    (400, hosts(b"Host: a@b"), "9110-7.2 a user in Host"),
    (400, hosts(b"Host: http://a"), "9110-7.2 a URI in Host"),
    (400, hosts(b"Host: a:b"), "9110-7.2 letters for the port in Host"),
    (400, hosts(b"Host: a:1:2"), "9110-7.2 two ports in Host"),
    (400, hosts(b"Host: [::1"), "9110-7.2 half an IPv6 address in Host"),
    (400, hosts(b"Host: a\xe9"), "9110-7.2 latin-1 in Host"),
    (400, hosts(b"Host: a%zz"), "3986-2.1 a percent sign without two hex digits in Host"),
    (400, hosts(b"Host: a%"), "3986-2.1 a percent sign at the end of Host"),
    (400, hosts(b"Host: [:::::]"), "3986-3.2.2 colons that are no IPv6 address in Host"),
    (400, hosts(b"Host: [1.2.3.4]"), "3986-3.2.2 an IPv4 address in brackets in Host"),
    (400, hosts(b"Host: [::1]80"), "3986-3.2 no colon before the port in Host"),
    (400, hosts(b"Host: [v1]"), "3986-3.2.2 half an address of the future in Host"),
    (400, hosts(b"Host: [fe80::1%25eth0]"), "6874-4 a zone in Host"),
    (400, hosts(b"Host: :80"), "9110-4.2.1 a port and no host in Host"),
    # --- Content-Length ---
    (400, sized(b""), "9110-8.6 an empty length"),
    (400, sized(b" +5"), "9110-8.6 a plus sign"),
    (400, sized(b" -5"), "9110-8.6 a minus sign"),
    (400, sized(b" -0"), "9110-8.6 minus zero"),
    (400, sized(b" 1 2"), "9110-8.6 a space within"),
    (400, sized(b" 0x5"), "9110-8.6 hexadecimal"),
    (400, sized(b" 5.0"), "9110-8.6 a fraction"),
    (400, sized(b" 5_0"), "9110-8.6 an underscore, as int() takes"),
    (400, sized(b" five"), "9110-8.6 a word"),
    (400, sized(b" 5;"), "9110-8.6 a semicolon"),
    (400, sized(b' "5"'), "9110-8.6 quotes"),
    (400, sized(b" \xb2"), "9110-8.6 a digit to isdigit() only"),
    (400, sized(b"\x0b5"), "9110-8.6 a vertical tab, as int() takes"),
    (400, sized(b" 5, 5"), "9110-8.6 a list of the same (ours: refused, not repaired)"),
    (400, sized(b" 5, 6"), "9110-8.6 a list"),
    (400, sized(b" 5,"), "9110-8.6 a list of one (ours)"),
    (400, sized(b" 5", b" 5"), "9112-6.3 the same length twice (ours)"),
    (400, sized(b" 5", b" 6"), "9112-6.3 two lengths"),
    (413, sized(b" 65"), "9110-15.5.14 a body over max_body, declared"),
    (413, sized(b" 18446744073709551621"), "9110-8.6 2**64 + 5, which must not become 5 (ours: 413, it is a number)"),
    (413, sized(b" " + b"9" * 60), "9110-8.6 sixty nines (ours: 413)"),
    # --- Transfer-Encoding ---
    (
        400,
        lines(b"Transfer-Encoding: chunked", b"Content-Length: 5") + chunked(b"hello"),
        "9112-6.3 with a length (ours)",
    ),
    (
        400,
        lines(b"Content-Length: 15", b"Transfer-Encoding: chunked") + chunked(b"hello"),
        "9112-6.3 a length first (ours)",
    ),
    (
        400,
        lines(b"Content-Length: 5", b"transfer-encoding: CHUNKED") + chunked(b"hello"),
        "9112-6.3 in another case (ours)",
    ),
    (
        400,
        hosts(b"Host: a", b"Connection: keep-alive", b"Transfer-Encoding: chunked", version=b"1.0") + chunked(b"hello"),
        "9112-6.1 in HTTP/1.0",
    ),
    (501, coded(b" identity"), "9112-6.1 identity, which is no coding any more (ours: 501 as for any unknown one)"),
    (501, coded(b" gzip, chunked"), "9112-6.1 gzip is not implemented"),
    (501, coded(b" gzip", b" chunked"), "9112-6.1 gzip is not implemented, in two lines"),
    (501, coded(b" xchunked"), "9112-6.1 a coding that ends like chunked (ours: 501)"),
    (501, coded(b" chunkedx"), "9112-6.1 a coding that begins like chunked (ours: 501)"),
    (501, coded(b" x, chunked"), "9112-6.1 an unknown coding"),
    (400, coded(b" chunked, gzip"), "9112-6.3 chunked is not the last"),
    (400, coded(b" chunked, identity"), "9112-6.3 identity is the last"),
    (400, coded(b" chunked", b" identity"), "9112-6.3 identity is the last, in two lines"),
    (400, coded(b" chunked, chunked"), "9112-6.1 chunked twice"),
    (400, coded(b" chunked", b" chunked"), "9112-6.1 chunked twice, in two lines"),
    (400, coded(b""), "9112-6.1 no coding (ours)"),
    (400, coded(b" \x0bchunked"), "9110-5.5 a vertical tab before chunked"),
    (400, coded(b" chunked\x0c"), "9110-5.5 a form feed behind chunked"),
    (400, coded(b" chunked\x00"), "9110-5.5 NUL behind chunked"),
    (400, lines(b"Transfer-Encoding : chunked") + chunked(b"hello"), "9112-5.1 a space behind Transfer-Encoding"),
    (
        400,
        lines(b"Transfer-Encoding\x0b: chunked") + chunked(b"hello"),
        "9110-5.1 a vertical tab behind Transfer-Encoding",
    ),
    (
        400,
        lines(b"X: a\nTransfer-Encoding: chunked") + chunked(b"hello"),
        "9112-2.2 Transfer-Encoding behind a bare LF",
    ),
    # --- Expect ---
    (
        417,
        lines(b"Expect: 200-ok", b"Content-Length: 5", method=b"POST") + b"hello",
        "9110-10.1.1 not 100-continue (ours)",
    ),
    (417, lines(b"Expect: 100-continue, more"), "9110-10.1.1 more than 100-continue (ours)"),
]

# Rows whose head is good: the fault is in the body.
BODIES = [
    (400, chunks(b"0x5\r\nhello\r\n0\r\n\r\n"), "9112-7.1 0x before the size"),
    (400, chunks(b"-1\r\nhello\r\n0\r\n\r\n"), "9112-7.1 a minus sign"),
    (400, chunks(b"+5\r\nhello\r\n0\r\n\r\n"), "9112-7.1 a plus sign"),
    (400, chunks(b"\r\nhello\r\n0\r\n\r\n"), "9112-7.1 an empty size"),
    (400, chunks(b";x\r\nhello\r\n0\r\n\r\n"), "9112-7.1 an extension without a size"),
    (400, chunks(b" 5\r\nhello\r\n0\r\n\r\n"), "9112-7.1 a space before the size"),
    (400, chunks(b"5 \r\nhello\r\n0\r\n\r\n"), "9112-7.1 a space behind the size (ours)"),
    (400, chunks(b"5_\r\nhello\r\n0\r\n\r\n"), "9112-7.1 an underscore, as int() takes"),
    (400, chunks(b"5h\r\nhello\r\n0\r\n\r\n"), "9112-7.1 a letter that is no hex digit"),
    (400, chunks(b"\xb25\r\nhello\r\n0\r\n\r\n"), "9112-7.1 a byte above 0x7f"),
    (400, chunks(b"00000000000000005\r\nhello\r\n0\r\n\r\n"), "9112-7.1 17 digits, of a small number (ours)"),
    (400, chunks(b"10000000000000005\r\nhello\r\n0\r\n\r\n"), "9112-7.1 2**64 + 5, which must not become 5 (ours)"),
    (413, chunks(b"ffffffffffffffff\r\nhello\r\n0\r\n\r\n"), "9112-7.1 2**64 - 1, over max_body"),
    (413, chunks(b"fffffffffffffffe\r\nhello\r\n0\r\n\r\n"), "9112-7.1 a size to which adding 2 overflows"),
    (413, chunks(b"41\r\n" + b"x" * 65 + b"\r\n0\r\n\r\n"), "9110-15.5.14 one chunk over max_body"),
    (413, chunks((b"8\r\n" + b"x" * 8 + b"\r\n") * 9 + b"0\r\n\r\n"), "9110-15.5.14 the chunks together over max_body"),
    (400, chunks(b"5\r\nhello0\r\n\r\n"), "9112-7.1 no CRLF behind the data"),
    (400, chunks(b"5\r\nhello!\r\n0\r\n\r\n"), "9112-7.1 more data than said"),
    (400, chunks(b"6\r\nhello\r\n0\r\n\r\n"), "9112-7.1 less data than said"),
    (400, chunks(b"5\r\nhello\n0\r\n\r\n"), "9112-7.1 bare LF behind the data"),
    (400, chunks(b"5\r\nhello\r0\r\n\r\n"), "9112-7.1 bare CR behind the data"),
    (400, chunks(b"5\r\nhello\r\r\n0\r\n\r\n"), "9112-7.1 two CR behind the data"),
    (400, chunks(b"5\nhello\r\n0\r\n\r\n"), "9112-7.1 bare LF behind the size"),
    (400, chunks(b"5\rhello\r\n0\r\n\r\n"), "9112-7.1 bare CR behind the size"),
    (400, chunks(b"5;x\nhello\r\n0\r\n\r\n"), "9112-7.1.1 bare LF ends an extension"),
    (400, chunks(b"5;x=\na\r\nhello\r\n0\r\n\r\n"), "9112-7.1.1 bare LF in an extension"),
    (400, chunks(b"5;x=\ra\r\nhello\r\n0\r\n\r\n"), "9112-7.1.1 bare CR in an extension"),
    (400, chunks(b"5;x=\x00\r\nhello\r\n0\r\n\r\n"), "9112-7.1.1 NUL in an extension"),
    (400, chunks(b"5\r\nhello\r\n0\n\r\n"), "9112-7.1 bare LF behind the last size"),
    (400, chunks(b"5\r\nhello\r\n0\r\n\n"), "9112-7.1 bare LF at the end"),
    (400, chunks(b"5\r\nhello\r\n0\r\n"), "9112-7.1.2 the next request where trailers may be"),
    (400, chunks(b"0\r\nnonsense\r\n\r\n"), "9112-7.1.2 a trailer without a colon"),
    (400, chunks(b"0\r\nX : a\r\n\r\n"), "9112-7.1.2 a trailer with a space before the colon"),
    (400, chunks(b"0\r\n: a\r\n\r\n"), "9112-7.1.2 a trailer with an empty name"),
    (400, chunks(b"0\r\n X: a\r\n\r\n"), "9112-7.1.2 a space before the first trailer"),
    (400, chunks(b"0\r\nX: a\r\n b\r\n\r\n"), "9112-7.1.2 a folded trailer"),
    (400, chunks(b"0\r\nX: a\n\r\n"), "9112-7.1.2 bare LF ends a trailer"),
    (400, chunks(b"0\r\nX: a\x00\r\n\r\n"), "9112-7.1.2 NUL in a trailer"),
    (
        431,
        chunks(b"0\r\n" + b"".join(b"X-%d: a\r\n" % n for n in range(11)) + b"\r\n"),
        "6585-5 too many trailers (ours)",
    ),
    (
        431,
        chunks(b"0\r\n" + b"".join(b"X-%d: " % n + b"a" * 90 + b"\r\n" for n in range(9))),
        "6585-5 trailers too large (ours)",
    ),
]


@pytest.mark.parametrize(("status", "sent"), table(*HEADS, *BODIES))
def test_what_is_malformed_is_refused_and_nothing_behind_it_is_answered(connected, events, status, sent):
    client = connected(lambda: Notes(events))
    client.send(sent + NEXT)
    is_refused(client, status)
    ended_for_it(events)
    assert events.names == ["close"], "on_request was called"


@pytest.mark.parametrize(("status", "sent"), table(*HEADS, *BODIES))
def test_what_is_malformed_is_refused_for_the_same_when_it_comes_byte_by_byte(connected, events, status, sent):
    client = connected(lambda: Notes(events))
    client.send_bytewise(sent + NEXT)
    is_refused(client, status)
    ended_for_it(events)
    assert events.names == ["close"], "on_request was called"


@pytest.mark.parametrize(("status", "sent"), table(*HEADS, *BODIES))
def test_what_is_malformed_is_refused_after_the_answers_to_what_came_before(connected, events, status, sent):
    client = connected(lambda: Notes(events))
    client.send(get("/before") + sent + NEXT)
    assert client.answer()["x-target"] == "/before"
    is_refused(client, status)
    ended_for_it(events)
    assert events.names == ["request", "close"]


class Streams(goev.http.Connection):
    """Takes bodies in pieces, and answers at their end."""

    limits = LIMITS

    def __init__(self, events: Events) -> None:
        self.events = events

    def on_request(self, request):
        self.events("request")

    def on_body(self, request, data):
        if not data:
            self.events("end")
            request.respond(200, {"x-target": request.target}, b"answered")

    def on_close(self, error):
        self.events("close", error)


@pytest.mark.parametrize(("status", "sent"), table(*HEADS))
def test_a_malformed_head_never_reaches_who_takes_bodies_in_pieces(connected, events, status, sent):
    client = connected(lambda: Streams(events))
    client.send(sent + NEXT)
    is_refused(client, status)
    ended_for_it(events)
    assert events.names == ["close"]


@pytest.mark.parametrize(("status", "sent"), table(*BODIES))
def test_a_body_that_goes_wrong_while_it_is_taken_in_pieces_has_no_end(connected, events, status, sent):
    client = connected(lambda: Streams(events))
    client.send(sent + NEXT)
    is_refused(client, status)
    ended_for_it(events)
    assert events.names == ["request", "close"]


def test_a_body_that_goes_wrong_after_its_answer_gets_no_second_one(connected, events):
    """The second would be taken for the answer to another request."""

    class Early(Streams):
        def on_request(self, request):
            self.events("request")
            request.respond(200, None, b"early")

        def on_body(self, request, data):
            self.events("body", data)

    client = connected(lambda: Early(events))
    client.send(chunks(b"5\r\nhello\r\n"))
    assert client.answer().body == b"early"
    client.send(b"nonsense\r\n" + NEXT)
    assert client.rest() == b""
    ended_for_it(events)
    assert events.history[:-1] == [("request",), ("body", b"hello")]


def test_what_is_malformed_waits_for_the_answers_that_are_due(connected, events):
    class Keeps(Notes):
        def on_request(self, request):
            self.events("request", request)

    client = connected(lambda: Keeps(events))
    client.send(get("/one") + get("/two") + b"nonsense\r\n\r\n" + NEXT)
    one, two = events.until("request")[1], events.until("request")[1]
    settle(client.server.reactor)
    assert client.is_silent()
    two.respond(200, None, b"two")
    one.respond(200, None, b"one")
    assert [client.answer().body, client.answer().body] == [b"one", b"two"]
    is_refused(client, 400)
    ended_for_it(events)
    assert events.names == ["request", "request", "close"]


# Each is refused as soon as it can be: nothing more is sent, and the client does not finish.
AT_ONCE = [
    (414, b"GET /" + b"a" * 130, "a line that has no end yet"),
    (431, b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: %b\r\n" % (b"a" * 60) * 10, "a head that has no end yet"),
    (431, b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 700, "a field that has no end yet"),
    (431, b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: a\r\n" * 11, "fields that have no end yet"),
    (413, lines(b"Content-Length: 65", method=b"POST"), "a body of which nothing came yet"),
    (413, chunks(b"41\r\n" + b"x" * 65), "a chunk that has no end yet"),
    (400, chunks(b"0" * 17), "a chunk size that has no end yet (ours)"),
    (431, chunks(b"0\r\n" + b"X: " + b"a" * 700), "a trailer that has no end yet (ours)"),
    (400, b"GET / HTTP/1.1\n", "a bare LF (ours)"),
    (400, CLIENT_HELLO, "TLS"),
]


@pytest.mark.parametrize(("status", "sent"), table(*AT_ONCE))
def test_what_cannot_become_a_request_is_refused_without_waiting_for_its_end(connected, events, status, sent):
    client = connected(lambda: Notes(events))
    client.send(sent)
    is_refused(client, status)
    ended_for_it(events)
    assert events.names == ["close"]


def test_the_error_of_what_is_malformed_is_one_of_framing():
    assert issubclass(goev.http.ProtocolError, goev.FramingError)
