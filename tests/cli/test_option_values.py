"""Values of options: units, lists, and errors that name the allowed values."""

from contextlib import suppress

import pytest

from goev.cli import kinds
from goev.cli.options import OPTIONS


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (kinds.size(), "65536", 65536),
        (kinds.size(), "64k", 65536),
        (kinds.size(), "64K", 65536),
        (kinds.size(), "64kb", 65536),
        (kinds.size(), "64KiB", 65536),
        (kinds.size(), "100b", 100),
        (kinds.size(), "1.5m", 1572864),
        (kinds.size(), "2g", 2147483648),
        (kinds.size(), "9007199254740993", 9007199254740993),
        (kinds.time(), "2", 2.0),
        (kinds.time(), "2s", 2.0),
        (kinds.time(), "0.5", 0.5),
        (kinds.time(), "500ms", 0.5),
        (kinds.time(), "250us", 0.00025),
        (kinds.time(), "5m", 300.0),
        (kinds.time(), "1h", 3600.0),
        (kinds.time(), "1d", 86400.0),
        (kinds.integer(), "12", 12),
        (kinds.number(), "0.25", 0.25),
        (kinds.SWITCH, "yes", True),
        (kinds.SWITCH, "0", False),
        (kinds.ADDRESSES, ":8080, unix:/run/a.sock", [":8080", "unix:/run/a.sock"]),
        (kinds.CPUS, "0,2", [0, 2]),
        (kinds.CPUS, "0-3,8", [0, 1, 2, 3, 8]),
        (kinds.RATE, "1k,20s", (1024, 20.0)),
        (kinds.KEEPALIVE, "1m,15s,4", (60.0, 15.0, 4)),
        (kinds.MODE, "660", 0o660),
        (kinds.MODE, "0o600", 0o600),
        (kinds.CERTIFICATES, "a.example=c.pem,k.pem", {"a.example": ("c.pem", "k.pem")}),
    ],
)
def test_a_value_is_read_from_text(kind, text, value):
    read = kind.read(text)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("kind", "text", "complaint"),
    [
        (kinds.size(), "64q", "'64q' is not a size, such as 65536, 64k, 1m or 2g"),
        (kinds.size(), "", "'' is not a size"),
        (kinds.size(), "0.3", "a whole number of bytes"),
        (kinds.size(), "9" * 400, "is not a size"),
        (kinds.size(least=1), "0", "must be at least 1 bytes, not 0"),
        (kinds.time(), "2 weeks", "'2 weeks' is not a time, such as 2, 2s, 500ms"),
        (kinds.time(), "nan", "'nan' is not a time"),
        (kinds.time(), "inf", "'inf' is not a time"),
        (kinds.time(least=0), "-1", "must be at least 0 seconds, not -1"),
        (kinds.time(above=0), "0", "must be more than 0 seconds, not 0"),
        (kinds.integer(), "1.5", "'1.5' is not a whole number"),
        (kinds.integer(least=1), "0", "must be at least 1, not 0"),
        (kinds.number(least=0, most=1), "2", "must be from 0 to 1, not 2"),
        (kinds.number(), "nan", "'nan' is not a number"),
        (kinds.number(), "x", "'x' is not a number"),
        (kinds.SWITCH, "maybe", "'maybe' is not true or false"),
        (kinds.ADDRESSES, ":80,,:81", "a list of addresses with commas between them"),
        (kinds.CPUS, "3-1", "'3-1' is not a list of CPU numbers, such as 0,2 or 0-3"),
        (kinds.CPUS, "0-999999999", "is not a list of CPU numbers"),
        (kinds.RATE, "1k", "'1k' is not bytes a second and seconds, such as 1k,20s"),
        (kinds.KEEPALIVE, "1,2,3,4", "such as 60s,15s,4"),
        (kinds.MODE, "rw-", "'rw-' is not a file mode, such as 660"),
        (kinds.CERTIFICATES, "a.example=c.pem", "such as a.example=cert.pem,key.pem"),
        (kinds.FILE, "", "'' is not the path of a file"),
        (kinds.choice("wait", "refuse"), "Wait", "'Wait' is not one of wait, refuse"),
    ],
)
def test_wrong_text_is_refused_and_the_error_names_the_right_form(kind, text, complaint):
    with pytest.raises(ValueError, match=r".+") as caught:
        kind.read(text)
    assert complaint in str(caught.value)


@pytest.mark.parametrize("value", [None, True, 1, -1.5, float("nan"), [], [None], [[1]], {}, {"a": 1}, object()])
def test_a_value_of_another_type_is_taken_or_refused_and_nothing_else(value):
    for option in OPTIONS.values():
        with suppress(ValueError):
            option.kind.take(value)


@pytest.mark.parametrize("text", ["", " ", ",", "=", "-", "1", "é", "\0", "9" * 5000, "1e999", "-" * 50, "a=b,c=d"])
def test_any_text_is_read_or_refused_and_nothing_else(text):
    for option in OPTIONS.values():
        with suppress(ValueError):
            option.kind.read(text)
