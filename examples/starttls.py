"""A mail server that takes every mail and prints it: SMTP (RFC 5321) with STARTTLS (RFC 3207).

Try it with ``swaks --server 127.0.0.1:2525 --tls --to ada@example.org``.
"""

import argparse
import re
from functools import partial

import goev

LONGEST_LINE = 64 << 10  # bytes; RFC 5321 asks for 1,000, and not every sender keeps to them
LARGEST_MAIL = 10 << 20  # bytes
MOST_RECIPIENTS = 100

FROM = re.compile(rb"FROM:\s*<(.*?)>", re.IGNORECASE)
TO = re.compile(rb"TO:\s*<(.+?)>", re.IGNORECASE)

MAKE_FILES = (
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=localhost "
    "-addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout key.pem -out cert.pem"
)


class Sink(goev.Connection):
    framing = goev.Delimited(b"\r\n", max_size=LONGEST_LINE)

    def __init__(self, context: goev.tls.ServerContext) -> None:
        self.context = context
        self.forget()

    def forget(self, *, greeted: bool = False) -> None:
        """Begin anew, as behind a greeting or before one."""
        self.greeted = greeted
        self.sender: bytes | None = None
        self.recipients: list[bytes] = []
        self.mail: list[bytes] | None = None  # the lines so far, while a mail comes
        self.size = 0

    def on_open(self) -> None:
        self.send(b"220 goev ESMTP")

    def on_message(self, line: bytes) -> bool:
        if self.mail is not None:
            self.take(line, self.mail)
            return True
        verb, _, rest = line.partition(b" ")
        match verb.upper():
            case b"EHLO":
                self.forget(greeted=True)
                offers = [b"goev", b"PIPELINING", b"8BITMIME", b"SIZE %d" % LARGEST_MAIL]
                offers += [] if self.tls else [b"STARTTLS"]
                self.send_messages([*(b"250-" + offer for offer in offers[:-1]), b"250 " + offers[-1]])
            case b"HELO":
                self.forget(greeted=True)
                self.send(b"250 goev")
            case b"STARTTLS" if not self.tls and not rest:
                return self.secure()
            case b"MAIL" if self.greeted and self.sender is None and (found := FROM.match(rest)):
                self.sender = found[1]
                self.send(b"250 go on")
            case b"RCPT" if len(self.recipients) == MOST_RECIPIENTS:
                self.send(b"452 too many recipients")
            case b"RCPT" if self.sender is not None and (found := TO.match(rest)):
                self.recipients.append(found[1])
                self.send(b"250 go on")
            case b"DATA" if self.recipients:
                self.mail = []
                self.send(b"354 the mail, and a line with a dot behind it")
            case b"RSET":
                self.forget(greeted=self.greeted)
                self.send(b"250 forgotten")
            case b"NOOP":
                self.send(b"250 nothing done")
            case b"QUIT":
                self.send(b"221 bye")
                return False
            case b"STARTTLS" | b"MAIL" | b"RCPT" | b"DATA":
                self.send(b"503 not now, or not with this argument")
            case _:
                self.send(b"502 no such command")
        return True

    def secure(self) -> bool:
        if self.pending_input:  # sent in the clear, by anybody; it must not be obeyed as if TLS had protected it
            self.send(b"554 nothing may come behind STARTTLS")
            return False
        self.send(b"220 begin")
        self.start_tls(self.context, then=self.forget)  # nothing that was said in the clear counts
        return True

    def take(self, line: bytes, mail: list[bytes]) -> None:
        if line != b".":
            self.size += len(line) + 2
            if self.size <= LARGEST_MAIL:
                mail.append(line.removeprefix(b"."))  # the sender put a dot before that of a line (section 4.5.2)
            return
        if self.size > LARGEST_MAIL:
            self.send(b"552 more than %d bytes" % LARGEST_MAIL)
        else:
            self.show(mail)
            self.send(b"250 received")
        self.forget(greeted=True)

    def show(self, mail: list[bytes]) -> None:
        way = self.tls.version if self.tls else "in the clear"
        print(f"from {plain(self.sender or b'nobody')} to {plain(b', '.join(self.recipients))} ({way}):")
        print(*(f"    {plain(line)}".rstrip() for line in mail), sep="\n", flush=True)


def plain(text: bytes) -> str:
    """Text for a terminal: control characters could move its cursor."""
    return "".join(c if c.isprintable() or c == "\t" else "\ufffd" for c in text.decode(errors="replace"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=2525, help="TCP port, 0 for a free one (default: %(default)s)")
    parser.add_argument("--certificate", default="cert.pem", help="PEM file (default: %(default)s)")
    parser.add_argument("--key", default="key.pem", help="PEM file (default: %(default)s)")
    args = parser.parse_args()
    try:
        context = goev.tls.ServerContext(args.certificate, args.key)
    except FileNotFoundError as error:
        parser.error(f"{error}\nThis makes both files:\n{MAKE_FILES}")
    goev.serve(
        partial(Sink, context),
        f"127.0.0.1:{args.port}",
        idle_timeout=300,  # RFC 5321 section 4.5.3.2.7
        ready=lambda acceptor: print("mail on {}:{}".format(*acceptor.address), flush=True),
    )


if __name__ == "__main__":
    main()
