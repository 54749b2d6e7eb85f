"""Rules of the source that no compiler checks.

A rule is a function from a source to findings; it holds when there are none. Each rule is also tried on violations that
are planted among the real sources: a rule that finds nothing there checks nothing.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import NamedTuple

import pytest

from rust_source import Crate, Source, circles
from support import ROOT

CRATE = Crate.of_texts({str(path.relative_to(ROOT)): path.read_text() for path in sorted((ROOT / "src").rglob("*.rs"))})


class Finding(NamedTuple):
    """A place that breaks a rule."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}"


Rule = Callable[[Crate, Source], Iterator[Finding]]


def part(file: str) -> str:
    """The folder of ``src/`` that a file is in, or the name of a file beside the folders."""
    return file.split("/")[1].removesuffix(".rs")


def lines_with(pattern: re.Pattern[str], source: Source, code: str) -> Iterator[tuple[int, re.Match[str]]]:
    for found in pattern.finditer(code):
        yield source.line(found.start()), found


# ---- layers ----------------------------------------------------------------------------------------------------------

# From low to high; a file imports its own layer and those before it.
LAYERS = [
    ("error", "data", "recorder", "slots", "capacity"),
    ("options", "timer", "proxy"),
    ("system",),
    ("journal",),
    ("tls",),
    ("shared",),
    ("protocols",),
    ("connection",),
    ("sources",),
    ("poller",),
    ("reactor",),
    ("handlers",),
    ("python",),
    ("lib",),
]
HEIGHT = {name: height for height, names in enumerate(LAYERS) for name in names}
VALUES = {*LAYERS[0], *LAYERS[1]}


def a_file_imports_no_higher_layer(crate: Crate, source: Source) -> Iterator[Finding]:
    height = HEIGHT.get(part(source.name))
    if height is None:
        yield Finding(source.name, 1, "belongs to no layer of LAYERS")
        return
    for reference in crate.references(source):
        if HEIGHT.get(part(reference.file), height) > height:
            yield Finding(source.name, reference.line, f"{part(source.name)} is below {reference.file}")


# The modules that stand on nothing of the crate, or on these.
FOUNDATIONS = {"src/error.rs": set(), "src/options.rs": {"src/error.rs"}}


def errors_and_options_stand_on_nothing_above_them(crate: Crate, source: Source) -> Iterator[Finding]:
    allowed = FOUNDATIONS.get(source.name)
    for reference in crate.references(source) if allowed is not None else ():
        if reference.file not in allowed:
            yield Finding(source.name, reference.line, f"imports {reference.file}")


# ---- protocols -------------------------------------------------------------------------------------------------------

TRAITS = "src/protocols/mod.rs"
# The items by which the core and its protocols know each other.
SEAM = {"Protocol", "Wire", "Closing", "Succession", "Unfinished"}
# The parts that serve any protocol and know none by its name.
IGNORANT = {*VALUES, "system", "journal", "tls", "shared", "connection", "sources", "poller"}
LINK = re.compile(r"\bprotocols::(\w+)")


def the_core_names_no_protocol(crate: Crate, source: Source) -> Iterator[Finding]:
    if part(source.name) not in IGNORANT:
        return
    for reference in crate.references(source):
        is_of_seam = reference.file == TRAITS and reference.items and reference.items[0] in SEAM
        if part(reference.file) == "protocols" and not is_of_seam:
            yield Finding(source.name, reference.line, f"names {'::'.join(reference.path)}")
    # A link in a comment names it as well.
    for line, found in lines_with(LINK, source, source.comments):
        if found[1] not in SEAM:
            yield Finding(source.name, line, f"names {found[0]}")


def protocol_of(file: str) -> str:
    """The file or folder of ``src/protocols/`` that a file belongs to."""
    return file.split("/")[2].removesuffix(".rs")


def a_protocol_imports_values_its_traits_and_itself(crate: Crate, source: Source) -> Iterator[Finding]:
    for reference in crate.references(source) if part(source.name) == "protocols" else ():
        is_own = part(reference.file) == "protocols" and protocol_of(reference.file) == protocol_of(source.name)
        if not (is_own or reference.file == TRAITS or part(reference.file) in VALUES):
            yield Finding(source.name, reference.line, f"imports {reference.file}")


# ---- the bytes of streams --------------------------------------------------------------------------------------------

TRANSPORT = "src/connection/transport.rs"
RAW = "src/system/socket.rs"
# Functions of the C library and numbers of system calls that move bytes, and the files that may name some of them.
MOVING = re.compile(r"(SYS_)?((send|recv)(to|from|file|file64|msg|mmsg)?|p?(read|write)(v|v2|64)?|splice|vmsplice|tee)")
MAY_MOVE = {
    TRANSPORT: {"sendfile"},
    RAW: {"SYS_recvfrom", "SYS_sendto"},
    "src/system/pipe.rs": {"splice"},
    # The sockets are asyncio's own.
    "src/python/asyncio/transports.rs": {"recv", "send"},
    # Files are no streams.
    "src/system/file.rs": {"pread"},
    # Datagrams are no streams.
    "src/sources/datagram.rs": {"recvmmsg", "sendmmsg"},
}
# The methods that only sockets have.
SOCKET_METHODS = re.compile(
    r"(?:\.|\b(?:Socket|SockRef|TcpStream|UnixStream)::)\s*("
    r"recv|recv_with_flags|recv_out_of_band|recv_vectored|recv_vectored_with_flags|recv_from|recvmsg|sendfile|sendmsg|"
    r"send_with_flags|send_out_of_band|send_vectored|send_vectored_with_flags|send_to)\b(?!_)"
)
# The methods that other things have too, where something is called a socket or a stream.
STREAM_METHODS = re.compile(
    r"\b(?:(?!web)\w*(?:socket|stream)\w*(?:\(\))?\)*\s*\.|(?:Socket|SockRef|TcpStream|UnixStream)::)\s*"
    r"(send|peek|read|read_vectored|read_exact|read_to_end|read_to_string|write|write_vectored|write_all|write_fmt)\s*\("
)
STREAM_TYPES = re.compile(r"\b(Socket|SockRef|TcpStream|UnixStream)\b")
# The traits by which a stream is read and written, whatever it is called.
STREAM_TRAITS = re.compile(r"(?:std::)?io::(?:(?:Read|Write|prelude)\b|\*)")
# Its pair of sockets is a pipe of this process, with signal handlers at the other end.
PIPES = {"src/system/signal.rs"}


def only_the_transport_moves_bytes_of_streams(crate: Crate, source: Source) -> Iterator[Finding]:
    yield from named_calls(source)
    if source.name != TRANSPORT:
        yield from raw_calls(crate, source)
    if source.name not in (TRANSPORT, *PIPES):
        yield from method_calls(source)


def named_calls(source: Source) -> Iterator[Finding]:
    """Names of the C library that the source may not use."""
    allowed = MAY_MOVE.get(source.name, set())
    for line, path in source.paths:
        if "libc" in path[:2] and path[-1] not in allowed and (path[-1] == "*" or MOVING.fullmatch(path[-1])):
            yield Finding(source.name, line, f"names {'::'.join(path)}")


def raw_calls(crate: Crate, source: Source) -> Iterator[Finding]:
    """Uses of the functions that receive from a stream socket and send to it."""
    for reference in crate.references(source):
        if reference.file == RAW and reference.items[:1] in (("receive",), ("send",), ("*",)):
            yield Finding(source.name, reference.line, f"names {'::'.join(reference.path)}")


def method_calls(source: Source) -> Iterator[Finding]:
    """Calls of methods that move bytes of a stream, and uses of the traits that have such methods."""
    for pattern in (SOCKET_METHODS, STREAM_METHODS):
        for line, found in lines_with(pattern, source, source.live):
            yield Finding(source.name, line, f"calls {found[1]} of a socket")
    if STREAM_TYPES.search(source.live):
        for line, path in source.paths:
            if STREAM_TRAITS.match("::".join(path)):
                yield Finding(source.name, line, f"names {'::'.join(path)} beside a stream")


# ---- Python ----------------------------------------------------------------------------------------------------------

# The modules below the classes: they know Python's objects, and none of their classes.
BELOW_CLASSES = {
    "src/python/tables.rs",
    "src/python/contexts.rs",
    "src/python/greenlets.rs",
    "src/python/callbacks.rs",
    "src/python/waiting.rs",
    *(f"src/python/asyncio/{name}.rs" for name in ("tasks", "bridge", "call_soon", "ready", "handle")),
}
FACES = "src/python/protocols/mod.rs"  # the trait by which classes of protocols are called
PYO3 = re.compile(r"(?i)pyo3")


def pyo3_is_named_in_the_python_layer_only(_: Crate, source: Source) -> Iterator[Finding]:
    if part(source.name) not in ("python", "lib"):
        for line, _found in lines_with(PYO3, source, source.text):
            yield Finding(source.name, line, "names pyo3")


def tables_and_callbacks_import_no_class(crate: Crate, source: Source) -> Iterator[Finding]:
    for reference in crate.references(source) if source.name in BELOW_CLASSES else ():
        is_of_core = part(reference.file) not in ("python", "lib", "handlers")
        is_below = reference.file.startswith("src/python/values/") or reference.file in (*BELOW_CLASSES, FACES)
        if not is_of_core and not is_below:
            yield Finding(source.name, reference.line, f"imports {reference.file}")


# ---- circles ---------------------------------------------------------------------------------------------------------

# The addresses that other threads hold name one another by nature (src/shared/mod.rs).
ONE_ANOTHER = {f"src/shared/{name}.rs" for name in ("handle", "remote", "location", "group", "acceptor")}


@cache
def imports_in_circles(crate: Crate, of_python: bool) -> list[Finding]:
    """The imports that lead back to where they are, in the core or on Python's side."""
    sides = {edge: [part(file) in ("python", "lib") for file in edge] for edge in crate.edges}
    edges = {edge: line for edge, line in crate.edges.items() if sides[edge] == [of_python, of_python]}
    found = []
    for circle in circles(edges, ONE_ANOTHER):
        for (file, imported), line in edges.items():
            if {file, imported} <= circle and not {file, imported} <= ONE_ANOTHER:
                found.append(Finding(file, line, f"imports {imported}, which leads back here"))
    return found


def imports_of_the_core_go_in_no_circle(crate: Crate, source: Source) -> Iterator[Finding]:
    yield from (finding for finding in imports_in_circles(crate, of_python=False) if finding.file == source.name)


def imports_of_python_go_in_no_circle(crate: Crate, source: Source) -> Iterator[Finding]:
    yield from (finding for finding in imports_in_circles(crate, of_python=True) if finding.file == source.name)


# ---- each file -------------------------------------------------------------------------------------------------------

LONGEST = 600
REASON = re.compile(r"(?://!.*\n)*//! Longer than \S")
PURE = re.compile(
    r"src/(?:protocols/.*|proxy/.*|timer|error|data|recorder|options|slots|capacity|connection/(?:buffer|phase|guards))\.rs"
)
IMPURE = re.compile(
    r"\b(mio|socket2|Instant::now|SystemTime|(?:Tcp|Unix|Udp)(?:Stream|Socket|Listener|Datagram)|std::(?:thread|fs)|"
    r"libc::(?:read|write|send|recv)\w*)\b"
)
UNWRAP = re.compile(r"\.\s*unwrap\s*\(\s*\)|\b(?:Option|Result)::unwrap\b")
UNSAFE = re.compile(r"\bunsafe\b(?!_)\s*(\{|impl\b|extern\s*(\" *\"\s*)?(\{|$)|$)")
UNSAFE_FUNCTION = re.compile(r"\bunsafe\s+(extern\s+\" *\"\s+)?fn\s+\w")


def a_pure_module_has_no_socket_no_thread_and_no_clock(_: Crate, source: Source) -> Iterator[Finding]:
    if PURE.fullmatch(source.name):
        for line, found in lines_with(IMPURE, source, source.live):
            yield Finding(source.name, line, f"names {found[0]}")


def a_source_holds_one_idea(_: Crate, source: Source) -> Iterator[Finding]:
    if source.length > LONGEST and not REASON.match(source.text):
        text = f"{source.length} lines outside its tests, and no line with `//! Longer than` says why"
        yield Finding(source.name, LONGEST, text)


def a_module_begins_with_what_it_is(_: Crate, source: Source) -> Iterator[Finding]:
    if not source.text.startswith("//! "):
        yield Finding(source.name, 1, "begins without `//!`")


def nothing_is_unwrapped_outside_tests(_: Crate, source: Source) -> Iterator[Finding]:
    for line, _found in lines_with(UNWRAP, source, source.live):
        yield Finding(source.name, line, "unwraps")


def every_unsafe_says_why_it_is_safe(_: Crate, source: Source) -> Iterator[Finding]:
    lines = source.text.splitlines()

    def is_above(number: int, most: int, *words: str) -> bool:
        above = "\n".join(lines[max(0, number - most) : number + 1])
        return any(word in above for word in words)

    for number, code in enumerate(source.code.splitlines()):
        if UNSAFE.search(code) and not is_above(number, 8, "SAFETY:"):
            yield Finding(source.name, number + 1, "unsafe without SAFETY")
        if UNSAFE_FUNCTION.search(code) and not is_above(number, 25, "SAFETY:", "# Safety"):
            yield Finding(source.name, number + 1, "an unsafe function that does not say what its caller owes")


# ---- the rules hold, and find what breaks them -----------------------------------------------------------------------

# Sources that break each rule, in the lines that end with `// here`. The text of a file that exists stands before them.
PLANTED: dict[Rule, list[dict[str, str]]] = {
    a_file_imports_no_higher_layer: [
        {"src/system/planted.rs": "use crate::poller::Poller; // here"},
        {"src/slots.rs": "use crate::options::LEAST_READ; // here"},
        {"src/poller/planted.rs": "fn f() { crate::handlers::g() } // here"},
        {"src/handlers.rs": "use crate::{error::Error, python::fill}; // here"},
        {"src/protocols/mod.rs": "use crate::connection::Connection; // here"},
        {"src/planted/mod.rs": "// here"},
    ],
    errors_and_options_stand_on_nothing_above_them: [
        {"src/error.rs": "use crate::slots::Token; // here"},
        {"src/options.rs": "use super::slots::Token; // here"},
    ],
    the_core_names_no_protocol: [
        {"src/poller/planted.rs": "use crate::protocols::http::Http; // here"},
        {"src/connection/mod.rs": "fn f() -> crate::protocols::framing::Frames {} // here"},
        {"src/shared/planted.rs": "/// [`crate::protocols::http::Part`] // here"},
        {"src/sources/planted.rs": "use crate::protocols::*; // here"},
        {"src/sources/planted.rs": "use crate::protocols; // here"},
        {"src/system/planted.rs": "use crate::protocols::{Wire, websocket::Item}; // here"},
        {"src/error.rs": "pub use super::protocols::http::Refusal; // here"},
        {"src/timer.rs": "use crate::protocols::Frames; // here"},
    ],
    a_protocol_imports_values_its_traits_and_itself: [
        {"src/protocols/http/planted.rs": "use crate::system::fork; // here"},
        {"src/protocols/planted.rs": "use super::http::Http; // here"},
        {TRAITS: "use framing::Frames; // here"},
    ],
    only_the_transport_moves_bytes_of_streams: [
        {"src/poller/planted.rs": "use crate::system::socket::receive; // here"},
        {"src/poller/planted.rs": "use crate::system::socket::*; // here"},
        {"src/sources/planted.rs": "use crate::system::socket as raw;\nfn f() { raw::send(a, b); } // here"},
        {"src/sources/connector.rs": "fn f() { socket::send(a, b); } // here"},
        {"src/connection/mod.rs": "fn f() { a.recv(b); } // here"},
        {"src/python/planted.rs": "fn f() { a.b.send_vectored(c); } // here"},
        {"src/poller/api.rs": "fn f() { self.socket.send(b); } // here"},
        {"src/poller/planted.rs": "fn f() { (&a.stream()).read(b); } // here"},
        {"src/poller/api.rs": "fn f() { Socket::send(a, b); } // here"},
        {"src/poller/api.rs": "use std::io::{self as x, Write}; // here"},
        {"src/poller/api.rs": "use std::io::*; // here"},
        {"src/poller/api.rs": "fn f() { io::Read::read(a, b); } // here"},
        {"src/poller/planted.rs": "fn f() { libc::send(a, b) } // here"},
        {"src/poller/planted.rs": "use libc::{c_int, sendfile}; // here"},
        {"src/poller/planted.rs": "fn f() { ::libc::write(a, b, c) } // here"},
        {RAW: "fn f() { libc::syscall(libc::SYS_writev) } // here"},
        {"src/sources/datagram.rs": "fn f() { libc::recvfrom(a) } // here"},
        {"src/poller/relay.rs": "fn f() { libc::splice(a) } // here"},
        {TRANSPORT: "fn f() { libc::recv(a) } // here"},
    ],
    pyo3_is_named_in_the_python_layer_only: [
        {"src/reactor.rs": "use pyo3::Python; // here"},
        {"src/shared/planted.rs": "// As PyO3 does; // here"},
    ],
    tables_and_callbacks_import_no_class: [
        {"src/python/tables.rs": "use crate::python::connection::Connection; // here"},
        {"src/python/tables.rs": "use super::timer::Timer; // here"},
        {"src/python/callbacks.rs": "fn f() { super::dispatch::g() } // here"},
        {"src/python/callbacks.rs": "use super::fill; // here"},
    ],
    imports_of_the_core_go_in_no_circle: [
        {"src/system/a.rs": "use super::b::B; // here", "src/system/b.rs": "fn f() { crate::system::a::g() } // here"},
        {
            "src/sources/planted/mod.rs": "pub use a::A; // here\npub struct X;",
            "src/sources/planted/a.rs": "use super::b; // here",
            "src/sources/planted/b.rs": "fn f() -> super::X {} // here",
        },
        {
            "src/shared/planted.rs": "use super::remote::Remote; // here",
            "src/shared/remote.rs": "use super::planted::P; // here",
        },
    ],
    imports_of_python_go_in_no_circle: [
        {"src/python/values/a.rs": "use super::b; // here", "src/python/values/b.rs": "use super::a; // here"},
    ],
    a_pure_module_has_no_socket_no_thread_and_no_clock: [
        {"src/protocols/http/planted.rs": "fn f() { Instant::now() } // here"},
        {"src/connection/phase.rs": "use mio::Token; // here"},
        {"src/timer.rs": "use std::thread; // here"},
        {"src/data.rs": "fn f() { libc::sendfile() } // here"},
    ],
    a_source_holds_one_idea: [
        {"src/planted.rs": "//! Planted.\n" + "\n" * (LONGEST - 2) + "// here\n//"},
        {
            "src/planted.rs": "//! Planted.\n\n//! Longer than others: too late.\n"
            + "\n" * (LONGEST - 4)
            + "// here\n//"
        },
    ],
    a_module_begins_with_what_it_is: [{"src/planted.rs": "use a; // here"}],
    nothing_is_unwrapped_outside_tests: [
        {"src/planted.rs": "fn f() { a.unwrap(); } // here"},
        {"src/planted.rs": "#[cfg(test)]\nmod t {}\nfn f() { a?.unwrap() } // here"},
        {"src/planted.rs": "fn f() { a.map(Option::unwrap) } // here"},
    ],
    every_unsafe_says_why_it_is_safe: [
        {"src/planted.rs": "fn f() {\n    unsafe { g() } // here\n}"},
        {"src/planted.rs": "unsafe impl Send for X {} // here"},
        {"src/planted.rs": "pub unsafe fn f() {} // here"},
        {"src/planted.rs": 'unsafe extern "C" fn f() {} // here'},
        {"src/planted.rs": 'unsafe extern "C" { // here\n}'},
    ],
}
RULES = list(PLANTED)

# Sources that look like violations and are none.
HARMLESS: dict[Rule, list[dict[str, str]]] = {
    a_file_imports_no_higher_layer: [
        {"src/system/planted.rs": "#[cfg(test)]\nmod tests { use crate::poller::Poller; }"},
        {"src/system/planted.rs": "// use crate::poller::Poller;"},
        {"src/poller/planted.rs": "use super::Poller;\nuse crate::error::Error;"},
    ],
    errors_and_options_stand_on_nothing_above_them: [{"src/options.rs": "use crate::error::Reason;"}],
    the_core_names_no_protocol: [
        {"src/poller/planted.rs": "use crate::protocols::{Closing, Protocol, Succession, Wire};"},
        {"src/shared/planted.rs": "/// [`crate::protocols::Protocol::receive`]"},
        {"src/handlers.rs": "use crate::protocols::http::Http;"},
        {"src/poller/planted.rs": "#[cfg(test)]\nuse crate::protocols::http::Http;"},
    ],
    a_protocol_imports_values_its_traits_and_itself: [
        {"src/protocols/planted.rs": "use super::Wire;\nuse crate::timer::TimerId;"},
        {"src/protocols/http/planted.rs": "use super::chunks::Chunks;"},
    ],
    only_the_transport_moves_bytes_of_streams: [
        {"src/poller/api.rs": "fn f() { group.send(a, b); socket.set_nonblocking(true); state.write(a); }"},
        {"src/poller/planted.rs": "fn f() { websocket.send(a); libc::sendto_of_ours(); }"},
        {"src/poller/api.rs": "use crate::system::socket::apply;"},
        {"src/protocols/planted.rs": "use std::io::Write;"},
    ],
    tables_and_callbacks_import_no_class: [
        {"src/python/tables.rs": "use crate::python::values::errors;\nuse crate::slots::Table;\nuse pyo3::Py;"},
        {"src/python/planted.rs": "use super::timer::Timer;"},
    ],
    imports_of_the_core_go_in_no_circle: [
        {"src/shared/handle.rs": "use super::remote::Peer;", "src/shared/remote.rs": "use super::handle::Message;"},
        {"src/system/a.rs": "use super::b;", "src/system/b.rs": "#[cfg(test)]\nmod tests { use crate::system::a; }"},
    ],
    a_source_holds_one_idea: [
        {"src/planted.rs": "//! Planted.\n//! Longer than others: one table.\n" + "//\n" * LONGEST},
        {"src/planted.rs": "//! Planted.\n#[cfg(test)]\nmod tests {\n" + "//\n" * LONGEST + "}"},
    ],
    nothing_is_unwrapped_outside_tests: [
        {"src/planted.rs": 'fn f() { a.unwrap_or(b); ".unwrap()" } // c.unwrap()'},
        {"src/planted.rs": "#[cfg(test)]\nmod tests { fn f() { a.unwrap(); } }"},
    ],
    every_unsafe_says_why_it_is_safe: [
        {"src/planted.rs": "// SAFETY: X owns it.\nunsafe impl Send for X {}"},
        {"src/planted.rs": '#![deny(unsafe_code)] // unsafe {\n"unsafe {";'},
        {"src/planted.rs": "/// # Safety\n/// Owe it.\npub unsafe fn f() {}"},
    ],
}


def cases(table: Mapping[Rule, Iterable[dict[str, str]]]) -> list[tuple[Rule, dict[str, str]]]:
    return [(rule, texts) for rule, planted in table.items() for texts in planted]


def rule_id(value: object) -> str:
    return getattr(value, "__name__", "")


def findings(rule: Rule, crate: Crate, names: Iterable[str]) -> list[Finding]:
    """Everything in some files that breaks a rule, in order."""
    sources = (crate.sources[name] for name in names)
    return sorted({finding for source in sources for finding in rule(crate, source)})


def plant(texts: Mapping[str, str]) -> tuple[Crate, list[tuple[str, int]]]:
    """The real sources with ``texts`` among them, and the lines of those that end with ``// here``."""
    planted, here = {}, []
    for name, text in sorted(texts.items()):
        before = CRATE.sources[name].text if name in CRATE.sources else ""
        planted[name] = before + text
        lines = planted[name].splitlines()
        here += [(name, number) for number, line in enumerate(lines, 1) if line.endswith("// here")]
    return CRATE.with_texts(planted), here


def found_by_planting(rule: Rule, texts: Mapping[str, str]) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """The places that a rule finds because of ``texts``, and those that it has to find."""
    crate, here = plant(texts)
    before = findings(rule, CRATE, texts.keys() & CRATE.sources.keys())
    return [finding[:2] for finding in findings(rule, crate, texts) if finding not in before], here


@pytest.mark.parametrize("rule", RULES, ids=rule_id)
def test_the_sources_keep_the_rule(rule):
    broken = findings(rule, CRATE, CRATE.sources)
    assert not broken, "".join(f"\n{finding}" for finding in broken)


@pytest.mark.parametrize(("rule", "texts"), cases(PLANTED), ids=rule_id)
def test_a_planted_violation_is_found_and_nothing_else(rule, texts):
    found, here = found_by_planting(rule, texts)
    assert found == here


@pytest.mark.parametrize(("rule", "texts"), cases(HARMLESS), ids=rule_id)
def test_sources_that_only_look_like_a_violation_pass(rule, texts):
    found, _ = found_by_planting(rule, texts)
    assert found == []


def test_there_are_sources_to_check():
    assert {part(name) for name in CRATE.sources} == HEIGHT.keys()
    assert {
        "src/poller/mod.rs",
        "src/shared/mailbox.rs",
        "src/connection/buffer.rs",
        TRAITS,
        RAW,
    } <= CRATE.sources.keys()
    assert {*ONE_ANOTHER, *PIPES, *MAY_MOVE, *FOUNDATIONS} <= CRATE.sources.keys()


def test_pyo3_is_named_in_no_other_file_under_src():
    others = [path for path in (ROOT / "src").rglob("*") if path.is_file() and path.suffix != ".rs"]
    assert not [path.name for path in others if b"pyo3" in path.read_bytes().lower()]
