//! Requests as bytes, and the outcome of each: the status for a malformed one, otherwise the request that a handler
//! sees.
//!
//! The last value of a row begins with the RFC and the section from which it comes. "ours" marks a row where the RFC
//! leaves the choice. `tests/test_http_malformed.py` sends the same rows by sockets.

use super::super::Limits;

/// Small limits, so that a row that exceeds one of them stays small.
pub fn limits() -> Limits {
    Limits { max_line: 120, max_headers: 10, max_head: 600, max_body: 64, ..Limits::default() }
}

/// Status, request, reason.
pub type Refused = (u16, Vec<u8>, &'static str);

/// Request, the line that the handler sees, some of the fields that it sees, the body, reason.
pub type Served = (Vec<u8>, &'static str, &'static [&'static str], &'static [u8], &'static str);

fn line(request_line: &[u8]) -> Vec<u8> {
    [request_line, b"\r\nHost: a\r\n\r\n"].concat()
}

fn lines_of(method: &str, fields: &[&[u8]]) -> Vec<u8> {
    [&[method.as_bytes(), b" / HTTP/1.1\r\nHost: a\r\n"].concat(), &fields_of(fields)[..]].concat()
}

fn fields_of(fields: &[&[u8]]) -> Vec<u8> {
    let mut bytes = fields.iter().flat_map(|field| [field, &b"\r\n"[..]].concat()).collect::<Vec<u8>>();
    bytes.extend(b"\r\n");
    bytes
}

fn lines(fields: &[&[u8]]) -> Vec<u8> {
    lines_of("GET", fields)
}

/// A request with these fields and no others.
fn hosts(version: &str, fields: &[&[u8]]) -> Vec<u8> {
    [format!("GET / HTTP/{version}\r\n").as_bytes(), &fields_of(fields)].concat()
}

/// A request with one Content-Length for each of these values.
fn sized(values: &[&[u8]]) -> Vec<u8> {
    let fields: Vec<Vec<u8>> = values.iter().map(|value| [b"Content-Length:", *value].concat()).collect();
    [lines_of("POST", &fields.iter().map(|field| &field[..]).collect::<Vec<_>>()), b"hello".to_vec()].concat()
}

const HELLO: &[u8] = b"5\r\nhello\r\n0\r\n\r\n";

/// A request with one Transfer-Encoding for each of these values.
fn coded(values: &[&[u8]]) -> Vec<u8> {
    let fields: Vec<Vec<u8>> = values.iter().map(|value| [b"Transfer-Encoding:", *value].concat()).collect();
    [lines_of("POST", &fields.iter().map(|field| &field[..]).collect::<Vec<_>>()), HELLO.to_vec()].concat()
}

fn chunks(body: &[u8]) -> Vec<u8> {
    [&lines_of("POST", &[b"Transfer-Encoding: chunked"]), body].concat()
}

fn with_hello(head: Vec<u8>) -> Vec<u8> {
    [head, HELLO.to_vec()].concat()
}

/// `count` fields with values of `bytes` bytes.
fn many(count: usize, bytes: usize) -> Vec<u8> {
    (0..count).flat_map(|at| format!("X-{at}: {}\r\n", "a".repeat(bytes)).into_bytes()).collect()
}

/// A record of TLS 1.2 with the beginning of a ClientHello.
const CLIENT_HELLO: &[u8] =
    b"\x16\x03\x01\x00\x43\x01\x00\x00\x3f\x03\x03`abcdefghijklmnopqrstuvwxyz\x00\x00\x04\x13\x01";

/// Requests with an error before any body.
#[rustfmt::skip]
pub fn malformed_heads() -> Vec<Refused> {
    vec![
        // The request line.
        (400, line(b" / HTTP/1.1"), "9112-3 empty method"),
        (400, line(b"G@T / HTTP/1.1"), "9110-9.1 a method is a token: at sign"),
        (400, line(b"GE(T / HTTP/1.1"), "9110-9.1 a method is a token: parenthesis"),
        (400, line(b"G\xc9T / HTTP/1.1"), "9110-9.1 a method is a token: a byte above 0x7f"),
        (400, line(b"GET\0 / HTTP/1.1"), "9110-9.1 a method is a token: NUL"),
        (400, line(b"GET  / HTTP/1.1"), "9112-3 two spaces before the target (ours: refused, not repaired)"),
        (400, line(b"GET /  HTTP/1.1"), "9112-3 two spaces behind the target (ours)"),
        (400, line(b"GET / HTTP/1.1 "), "9112-3 a space behind the version (ours)"),
        (400, line(b" GET / HTTP/1.1"), "9112-3 a space before the method (ours)"),
        (400, line(b"GET\t/ HTTP/1.1"), "9112-3 a tab for the first space (ours)"),
        (400, line(b"GET /\tHTTP/1.1"), "9112-3 a tab for the second space (ours)"),
        (400, line(b"GET\x0b/\x0bHTTP/1.1"), "9112-3 vertical tabs for the spaces (ours)"),
        (400, line(b"GET /a b HTTP/1.1"), "9112-3.2 a space in the target"),
        (400, line(b"GET /a\0b HTTP/1.1"), "9112-3.2 NUL in the target"),
        (400, line(b"GET /a\x7fb HTTP/1.1"), "9112-3.2 DEL in the target"),
        (400, line("GET /é HTTP/1.1".as_bytes()), "9112-3.2 UTF-8 in the target"),
        (400, line(b"GET /\xe9 HTTP/1.1"), "9112-3.2 latin-1 in the target"),
        (400, line(b"GET /a#b HTTP/1.1"), "9112-3.2 a fragment"),
        (400, line(b"GET /%zz HTTP/1.1"), "3986-2.1 a percent sign without two hex digits (ours)"),
        (400, line(b"GET /a% HTTP/1.1"), "3986-2.1 a percent sign at the end (ours)"),
        (400, line(b"GET a HTTP/1.1"), "9112-3.2.1 origin-form begins with a slash"),
        (400, line(b"GET ?a=b HTTP/1.1"), "9112-3.2.1 a query alone"),
        (400, line(b"GET http:///a HTTP/1.1"), "9110-4.2.1 absolute-form with an empty host"),
        (400, line(b"GET a:80 HTTP/1.1"), "9112-3.2.3 authority-form is for CONNECT only"),
        (400, line(b"CONNECT /a HTTP/1.1"), "9112-3.2.3 CONNECT takes authority-form only"),
        (400, line(b"CONNECT a HTTP/1.1"), "9112-3.2.3 CONNECT without a port"),
        (400, line(b"CONNECT a:99999 HTTP/1.1"), "9110-9.3.6 CONNECT with no such port"),
        (400, line(b"GET * HTTP/1.1"), "9112-3.2.4 asterisk-form is for OPTIONS only"),
        (400, line(b"GET"), "9112-3 a method alone"),
        (400, line(b"GET /"), "9112-3 no version, as in HTTP/0.9"),
        (400, line(b"GET HTTP/1.1"), "9112-3 no target"),
        (400, line(b"GET / HTTP/1.10"), "9112-2.3 two digits behind the dot"),
        (400, line(b"GET / HTTP/11.1"), "9112-2.3 two digits before the dot"),
        (400, line(b"GET / HTTP/1"), "9112-2.3 no minor version"),
        (400, line(b"GET / HTTP/1,1"), "9112-2.3 a comma for the dot"),
        (400, line(b"GET / http/1.1"), "9112-2.3 the name is case-sensitive"),
        (400, line(b"GET / HTTPS/1.1"), "9112-2.3 another name"),
        (505, line(b"GET / HTTP/2.0"), "9110-15.6.6 a higher major version"),
        (505, line(b"GET / HTTP/0.9"), "9110-15.6.6 a lower major version"),
        (414, line(format!("GET /{} HTTP/1.1", "a".repeat(150)).as_bytes()), "9112-3 a target over max_line"),
        (414, line(format!("{} / HTTP/1.1", "A".repeat(150)).as_bytes()), "9112-3 a method over max_line (ours)"),
        (414, format!("GET /{}", "a".repeat(400)).into_bytes(), "9112-3 a line over max_line that never ends"),
        (400, b"\r\n\0".to_vec(), "9112-2.2 NUL behind the empty line"),
        (400, CLIENT_HELLO.to_vec(), "9112-3 TLS"),
        (400, b"\0\xff\r\n\r\n".to_vec(), "9112-3 binary"),
        (400, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec(), "9112-2.1 an answer"),
        // The ends of lines.
        (400, b"GET / HTTP/1.1\nHost: a\r\n\r\n".to_vec(), "9112-2.2 bare LF ends the request line (ours)"),
        (400, b"GET / HTTP/1.1\r\nHost: a\n\r\n".to_vec(), "9112-2.2 bare LF ends a field (ours)"),
        (400, b"GET / HTTP/1.1\r\nHost: a\r\n\n".to_vec(), "9112-2.2 bare LF ends the head (ours)"),
        (400, b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), "9112-2.2 bare LF as empty line before (ours)"),
        (400, b"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), "9112-2.2 bare CR before"),
        (400, b"GET / HTTP/1.1\rHost: a\r\n\r\n".to_vec(), "9112-2.2 bare CR ends the request line"),
        (400, b"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n".to_vec(), "9112-2.2 two CR end the request line"),
        (400, lines(&[b"X: a\rb"]), "9112-2.2 bare CR in a value"),
        (400, lines(&[b"X: a\r"]), "9112-2.2 two CR end a field"),
        (400, lines(&[b"X: a\nY: b"]), "9112-2.2 bare LF in a value"),
        (400, lines(&[b"X: a\rTransfer-Encoding: chunked"]), "9112-11.1 bare CR hides a field"),
        (400, b"GET / HTTP/1.1\r\nHost: a\r\n\r\r\n".to_vec(), "9112-2.2 a bare CR before the end of the head"),
        (400, lines(&[b"X: a", b" b"]), "9112-5.2 a folded value (ours: refused, not replaced)"),
        (400, lines(&[b"Transfer-Encoding:", b" chunked"]), "9112-5.2 a folded Transfer-Encoding (ours)"),
        (400, b"GET / HTTP/1.1\r\n Host: a\r\n\r\n".to_vec(), "9112-2.2 a space before the first field (ours)"),
        // Fields.
        (400, lines(&[b"X : a"]), "9112-5.1 a space before the colon"),
        (400, lines(&[b": a"]), "9110-5.1 an empty name"),
        (400, lines(&[b"nonsense"]), "9112-5 no colon"),
        (400, lines(&[b"X Y: a"]), "9110-5.1 a space in a name"),
        (400, lines(&[b"\"X\": a"]), "9110-5.1 quotes in a name"),
        (400, lines(&[b"X\xe9: a"]), "9110-5.1 latin-1 in a name"),
        (400, lines(&[b"X: a\0b"]), "9110-5.5 NUL in a value"),
        (400, lines(&[b"X: a\x1b[31mb"]), "9110-5.5 an escape sequence in a value (ours)"),
        (400, lines(&[b"X: a\x7fb"]), "9110-5.5 DEL in a value (ours)"),
        (431, [b"GET / HTTP/1.1\r\nHost: a\r\n", &many(10, 1)[..], b"\r\n"].concat(), "6585-5 fields over max_headers"),
        (431, [b"GET / HTTP/1.1\r\nHost: a\r\n", &many(8, 90)[..], b"\r\n"].concat(), "6585-5 a head over max_head"),
        (431, [b"GET / HTTP/1.1\r\nHost: a\r\n", &many(20, 40)[..]].concat(), "6585-5 a head that never ends"),
        // Host.
        (400, hosts("1.1", &[]), "9112-3.2 no Host"),
        (400, b"GET http://a/ HTTP/1.1\r\n\r\n".to_vec(), "9112-3.2 no Host beside absolute-form"),
        (400, hosts("1.1", &[b"Host: a", b"Host: b"]), "9112-3.2 two Hosts"),
        (400, hosts("1.0", &[b"Host: a", b"Host: a"]), "9112-3.2 two Hosts in HTTP/1.0"),
        (400, hosts("1.1", &[b"Host: a/b"]), "9110-7.2 a path in Host"),
        (400, hosts("1.1", &[b"Host: a@b"]), "9110-7.2 a user in Host"),
        (400, hosts("1.1", &[b"Host: a:b"]), "9110-7.2 letters for the port in Host"),
        (400, hosts("1.1", &[b"Host: [::1"]), "9110-7.2 half an IPv6 address in Host"),
        (400, hosts("1.1", &[b"Host: a%zz"]), "3986-2.1 a percent sign without two hex digits in Host"),
        (400, hosts("1.1", &[b"Host: [:::::]"]), "3986-3.2.2 colons that are no IPv6 address in Host"),
        (400, line(b"GET http://a%zz/ HTTP/1.1"), "3986-2.1 a percent sign without two hex digits in the target's host"),
        (400, line(b"GET http://[:::::]:80/ HTTP/1.1"), "3986-3.2.2 colons that are no IPv6 address in the target's host"),
        (400, line(b"CONNECT [:::::]:80 HTTP/1.1"), "3986-3.2.2 colons that are no IPv6 address in the tunnel's host"),
        // Content-Length.
        (400, sized(&[b""]), "9110-8.6 an empty length"),
        (400, sized(&[b" +5"]), "9110-8.6 a plus sign"),
        (400, sized(&[b" -5"]), "9110-8.6 a minus sign"),
        (400, sized(&[b" 1 2"]), "9110-8.6 a space within"),
        (400, sized(&[b" 0x5"]), "9110-8.6 hexadecimal"),
        (400, sized(&[b" 5_0"]), "9110-8.6 an underscore"),
        (400, sized(&[b" \xb2"]), "9110-8.6 a digit in latin-1"),
        (400, sized(&[b"\x0b5"]), "9110-8.6 a vertical tab"),
        (400, sized(&[b" 5, 5"]), "9110-8.6 a list of the same (ours: refused, not repaired)"),
        (400, sized(&[b" 5", b" 5"]), "9112-6.3 the same length twice (ours)"),
        (400, sized(&[b" 5", b" 6"]), "9112-6.3 two lengths"),
        (413, sized(&[b" 65"]), "9110-15.5.14 a body over max_body, declared"),
        (413, sized(&[b" 18446744073709551621"]), "9110-8.6 2**64 + 5, which must not become 5 (ours)"),
        // Transfer-Encoding.
        (400, with_hello(lines(&[b"Transfer-Encoding: chunked", b"Content-Length: 5"])), "9112-6.3 with a length (ours)"),
        (400, with_hello(lines(&[b"Content-Length: 15", b"Transfer-Encoding: chunked"])), "9112-6.3 a length first (ours)"),
        (400, with_hello(hosts("1.0", &[b"Host: a", b"Transfer-Encoding: chunked"])), "9112-6.1 in HTTP/1.0"),
        (501, coded(&[b" identity"]), "9112-6.1 identity, which is no coding any more (ours)"),
        (501, coded(&[b" gzip, chunked"]), "9112-6.1 gzip is not implemented"),
        (501, coded(&[b" xchunked"]), "9112-6.1 a coding that ends like chunked (ours)"),
        (400, coded(&[b" chunked, gzip"]), "9112-6.3 chunked is not the last"),
        (400, coded(&[b" chunked", b" identity"]), "9112-6.3 identity is the last, in two lines"),
        (400, coded(&[b" chunked, chunked"]), "9112-6.1 chunked twice"),
        (400, coded(&[b""]), "9112-6.1 no coding (ours)"),
        (400, coded(&[b" \x0bchunked"]), "9110-5.5 a vertical tab before chunked"),
        (400, coded(&[b" \"chunked\""]), "9112-6.1 a coding is a token, and no quoted string"),
        (501, coded(&[b" x;y=\", chunked, \""]), "9110-5.6.4 chunked in a quoted string is no coding"),
        (501, coded(&[b" x ; y=\"a b\", chunked"]), "9112-7 an unknown coding with a parameter"),
        (501, coded(&[b" chunked;x=y"]), "9112-7.1 chunked has no parameters"),
        (400, with_hello(lines(&[b"Transfer-Encoding : chunked"])), "9112-5.1 a space behind Transfer-Encoding"),
        (400, with_hello(lines(&[b"X: a\nTransfer-Encoding: chunked"])), "9112-2.2 behind a bare LF"),
        // Expect.
        (417, lines_of("POST", &[b"Expect: 200-ok", b"Content-Length: 5"]), "9110-10.1.1 not 100-continue (ours)"),
        (417, lines(&[b"Expect: 100-continue, more"]), "9110-10.1.1 more than 100-continue (ours)"),
    ]
}

/// Requests with a valid head and a malformed body.
#[rustfmt::skip]
pub fn malformed_bodies() -> Vec<Refused> {
    vec![
        (400, chunks(b"0x5\r\nhello\r\n0\r\n\r\n"), "9112-7.1 0x before the size"),
        (400, chunks(b"-1\r\nhello\r\n0\r\n\r\n"), "9112-7.1 a minus sign"),
        (400, chunks(b"\r\nhello\r\n0\r\n\r\n"), "9112-7.1 an empty size"),
        (400, chunks(b";x\r\nhello\r\n0\r\n\r\n"), "9112-7.1 an extension without a size"),
        (400, chunks(b" 5\r\nhello\r\n0\r\n\r\n"), "9112-7.1 a space before the size"),
        (400, chunks(b"5 \r\nhello\r\n0\r\n\r\n"), "9112-7.1 a space behind the size (ours)"),
        (400, chunks(b"5h\r\nhello\r\n0\r\n\r\n"), "9112-7.1 a letter that is no hex digit"),
        (400, chunks(b"00000000000000005\r\nhello\r\n0\r\n\r\n"), "9112-7.1 17 digits, of a small number (ours)"),
        (400, chunks(b"10000000000000005\r\nhello\r\n0\r\n\r\n"), "9112-7.1 2**64 + 5, which must not become 5 (ours)"),
        (413, chunks(b"ffffffffffffffff\r\nhello\r\n0\r\n\r\n"), "9112-7.1 2**64 - 1, over max_body"),
        (413, chunks(&[&b"41\r\n"[..], &[b'x'; 65], b"\r\n0\r\n\r\n"].concat()), "9110-15.5.14 one chunk over max_body"),
        (413, chunks(&[&b"8\r\nxxxxxxxx\r\n".repeat(9)[..], b"0\r\n\r\n"].concat()), "9110-15.5.14 chunks over max_body"),
        (400, chunks(b"5\r\nhello0\r\n\r\n"), "9112-7.1 no CRLF behind the data"),
        (400, chunks(b"5\r\nhello!\r\n0\r\n\r\n"), "9112-7.1 more data than said"),
        (400, chunks(b"6\r\nhello\r\n0\r\n\r\n"), "9112-7.1 less data than said"),
        (400, chunks(b"5\r\nhello\n0\r\n\r\n"), "9112-7.1 bare LF behind the data"),
        (400, chunks(b"5\r\nhello\r\r\n0\r\n\r\n"), "9112-7.1 two CR behind the data"),
        (400, chunks(b"5\nhello\r\n0\r\n\r\n"), "9112-7.1 bare LF behind the size"),
        (400, chunks(b"5\rhello\r\n0\r\n\r\n"), "9112-7.1 bare CR behind the size"),
        (400, chunks(b"5;x\nhello\r\n0\r\n\r\n"), "9112-7.1.1 bare LF ends an extension"),
        (400, chunks(b"5;x=\ra\r\nhello\r\n0\r\n\r\n"), "9112-7.1.1 bare CR in an extension"),
        (400, chunks(b"5;x=\0\r\nhello\r\n0\r\n\r\n"), "9112-7.1.1 NUL in an extension"),
        (400, chunks(b"5\r\nhello\r\n0\n\r\n"), "9112-7.1 bare LF behind the last size"),
        (400, chunks(b"5\r\nhello\r\n0\r\n\n"), "9112-7.1 bare LF at the end"),
        (400, chunks(b"5\r\nhello\r\n0\r\n"), "9112-7.1.2 the next request where trailers may be"),
        (400, chunks(b"0\r\nnonsense\r\n\r\n"), "9112-7.1.2 a trailer without a colon"),
        (400, chunks(b"0\r\nX : a\r\n\r\n"), "9112-7.1.2 a trailer with a space before the colon"),
        (400, chunks(b"0\r\n X: a\r\n\r\n"), "9112-7.1.2 a space before the first trailer"),
        (400, chunks(b"0\r\nX: a\r\n b\r\n\r\n"), "9112-7.1.2 a folded trailer"),
        (400, chunks(b"0\r\nX: a\0\r\n\r\n"), "9112-7.1.2 NUL in a trailer"),
        (431, chunks(&[b"0\r\n", &many(11, 1)[..], b"\r\n"].concat()), "6585-5 too many trailers (ours)"),
        (431, chunks(&[b"0\r\n", &many(9, 90)[..]].concat()), "6585-5 trailers too large (ours)"),
    ]
}

/// Requests that are unusual but legal; the connection stays open.
#[rustfmt::skip]
pub fn legal() -> Vec<Served> {
    const GET: &str = "GET / 1.1 goes on";
    const POST: &str = "POST / 1.1 goes on";
    const PUT: &str = "PUT / 1.1 goes on";
    vec![
        (line(b"get / HTTP/1.1"), "get / 1.1 goes on", &[], b"", "9110-9.1 a method is case-sensitive, and any token"),
        (line(b"!#$%&'*+-.^_`|~09azAZ / HTTP/1.1"), "!#$%&'*+-.^_`|~09azAZ / 1.1 goes on", &[], b"", "9110-5.6.2 a token"),
        ([b"\r\n".to_vec(), line(b"GET /a HTTP/1.1")].concat(), "GET /a 1.1 goes on", &[], b"", "9112-2.2 an empty line before"),
        (line(b"GET / HTTP/1.2"), GET, &[], b"", "9110-2.5 a higher minor version is 1.1"),
        (line(b"GET http://b:80/a?c HTTP/1.1"), "GET http://b:80/a?c 1.1 goes on", &[], b"", "9112-3.2.2 absolute-form"),
        (line(b"GET HTTP://b HTTP/1.1"), "GET HTTP://b 1.1 goes on", &[], b"", "9110-4.2.3 an empty path"),
        (line(b"OPTIONS * HTTP/1.1"), "OPTIONS * 1.1 goes on", &[], b"", "9112-3.2.4 asterisk-form"),
        (line(b"CONNECT [::1]:443 HTTP/1.1"), "CONNECT [::1]:443 1.1 goes on", &[], b"", "9112-3.2.3 authority-form"),
        (line(b"GET /a%20b%C3%A9+c HTTP/1.1"), "GET /a%20b%C3%A9+c 1.1 goes on", &[], b"", "3986-2.1 percent"),
        (line(b"GET /a?b=%20/?c&d=+ HTTP/1.1"), "GET /a?b=%20/?c&d=+ 1.1 goes on", &[], b"", "3986-3.4 a query is raw"),
        (line(b"GET //a//../b/. HTTP/1.1"), "GET //a//../b/. 1.1 goes on", &[], b"", "9112-3.2.1 not tidied (ours)"),
        (hosts("1.1", &[b"Host:"]), GET, &["Host: "], b"", "9110-7.2 an empty Host"),
        (hosts("1.1", &[b"Host: [::1]:8080"]), GET, &["Host: [::1]:8080"], b"", "9110-7.2 an IPv6 address in Host"),
        (hosts("1.1", &[b"X: a", b"hOsT: a.b:"]), GET, &["hOsT: a.b:", "X: a"], b"", "9110-7.2 Host last, an empty port"),
        (lines(&[b"X:a"]), GET, &["X: a"], b"", "9112-5 no space behind the colon"),
        (lines(&[b"X: \t a \t b\t "]), GET, &["X: a \t b"], b"", "9112-5 blanks around a value are no part of it"),
        (lines(&[b"X:", b"Y: "]), GET, &["X: ", "Y: "], b"", "9110-5.5 empty values"),
        (lines(&[b"X: : a: b"]), GET, &["X: : a: b"], b"", "9110-5.5 colons in a value"),
        (lines(&[b"X: \xe9\xff"]), GET, &["X: éÿ"], b"", "9110-5.5 bytes above 0x7f are latin-1"),
        (lines(&[b"Transfer_Encoding: chunked"]), GET, &["Transfer_Encoding: chunked"], b"", "9110-5.1 _ is no -"),
        (lines(&[b"X-Content-Length: 5"]), GET, &[], b"", "9110-8.6 a name that ends like Content-Length"),
        ([lines_of("POST", &[b"CONTENT-length:\t05 "]), b"hello".to_vec()].concat(), POST, &[], b"hello", "9110-8.6 zeros, blanks, any case"),
        ([lines(&[b"Content-Length: 5"]), b"hello".to_vec()].concat(), GET, &[], b"hello", "9110-9.3.1 a GET with a body"),
        (lines_of("POST", &[b"Content-Length: 0"]), POST, &[], b"", "9110-8.6 zero"),
        ([lines_of("PUT", &[b"Content-Length: 27"]), b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()].concat(), PUT, &[],
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "9112-6.2 a body that looks like a request"),
        ([lines_of("PUT", &[b"Content-Length: 64"]), vec![b'x'; 64]].concat(), PUT, &[], &[b'x'; 64], "ours a body of max_body"),
        (lines_of("POST", &[]), POST, &[], b"", "9112-6.3 a POST without a body"),
        (coded(&[b" ChUnKeD"]), POST, &[], b"hello", "9112-7 a coding in any case"),
        (coded(&[b"\tchunked\t "]), POST, &[], b"hello", "9112-5 blanks around a coding"),
        (chunks(b"0\r\n\r\n"), POST, &[], b"", "9112-7.1 no chunk but the last"),
        (chunks(b"00000\r\n\r\n"), POST, &[], b"", "9112-7.1 the last chunk in five zeros"),
        (chunks(b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n"), POST, &[], b"01234567890123456789", "9112-7.1 hex in any case"),
        (chunks(b"0000000000000005\r\nhello\r\n0\r\n\r\n"), POST, &[], b"hello", "9112-7.1 a size of sixteen digits"),
        (chunks(b"2\r\n\r\n\r\n4\r\n0\r\n\r\r\n0\r\n\r\n"), POST, &[], b"\r\n0\r\n\r", "9112-7.1 CRLF and zero as data"),
        (chunks(&[&b"40\r\n"[..], &[b'x'; 64], b"\r\n0\r\n\r\n"].concat()), POST, &[], &[b'x'; 64], "ours chunks of max_body"),
        (chunks(b"2;a\r\nhe\r\n3 ; b = c\t;d=\"e;f\\\"g\"\r\nllo\r\n0;h\r\n\r\n"), POST, &[], b"hello", "9112-7.1.1 extensions"),
        (chunks(b"5\r\nhello\r\n0\r\nContent-Length: 9\r\nHost: b\r\nX: \xe9\r\nY:\r\n\r\n"), POST, &["Host: a"], b"hello", "9110-6.5.1 trailers are ignored"),
        (lines(&[b"Connection: keep-alive"]), GET, &[], b"", "9112-9.3 keep-alive said"),
        (lines(&[b"Connection: Upgrade", b"Upgrade: h2c"]), GET, &["Upgrade: h2c"], b"", "9110-7.8 an upgrade may be ignored"),
        (lines(&[b"Expect: 100-continue"]), GET, &[], b"", "9110-10.1.1 Expect without a body"),
        (lines(&[b"Expect: ,100-Continue , ,100-continue"]), GET, &[], b"", "9110-5.6.1.2 empty members are ignored"),
        (lines(&[b"Expect:"]), GET, &[], b"", "9110-5.6.1 an empty list"),
        (lines(&[b"Connection: x=\",close,\""]), GET, &[], b"", "9110-5.6.4 close in a quoted string is no option"),
        (lines(&[b"Connection: x=\"\\\",close,\", keep-alive"]), GET, &[], b"", "9110-5.6.4 an escaped quote"),
        (hosts("1.0", &[b"Host: a", b"Connection: Keep-Alive"]), "GET / 1.0 goes on", &[], b"", "9112-9.3 HTTP/1.0 that goes on"),
        ([hosts("1.0", &[b"Connection: keep-alive", b"Content-Length: 5"]), b"hello".to_vec()].concat(), "GET / 1.0 goes on", &[], b"hello",
            "9112-3.2 no Host in HTTP/1.0"),
    ]
}

/// Legal requests; the connection ends after the answer.
#[rustfmt::skip]
pub fn last() -> Vec<Served> {
    const GET: &str = "GET / 1.1 ends";
    vec![
        (lines(&[b"Connection: close"]), GET, &[], b"", "9112-9.3 close"),
        (lines(&[b"Connection: CLOSE"]), GET, &[], b"", "9110-7.6.1 in any case"),
        (lines(&[b"Connection: x,close ,\ty"]), GET, &[], b"", "9110-7.6.1 in a list"),
        (lines(&[b"Connection: x", b"Connection: close"]), GET, &[], b"", "9110-7.6.1 in a second line"),
        (lines(&[b"Connection: keep-alive, close"]), GET, &[], b"", "9112-9.3 close is stronger than keep-alive"),
        (lines(&[b"Connection: close, upgrade", b"Upgrade: h2c"]), GET, &[], b"", "9112-9.3 close beside an upgrade"),
        (hosts("1.0", &[]), "GET / 1.0 ends", &[], b"", "9112-9.3 HTTP/1.0"),
        (hosts("1.0", &[b"Connection: x"]), "GET / 1.0 ends", &[], b"", "9112-9.3 HTTP/1.0, another option"),
        ([lines(&[b"Connection: close", b"Content-Length: 5"]), b"hello".to_vec()].concat(), GET, &[], b"hello", "9112-9.3 close, and a body"),
        ([lines(&[b"Connection: close", b"Transfer-Encoding: chunked"]), HELLO.to_vec()].concat(), GET, &[], b"hello", "9112-9.3 close, and chunks"),
    ]
}
