"""The headers of a request are a read-only mapping that ignores case."""

from collections.abc import Mapping

import pytest

from http_support import get


@pytest.fixture
def headers(kept):
    """Of a request with these fields and Host."""
    return kept(get("/", "X-One: 1", "Accept: a", "X-Two: é", "ACCEPT: b", "accept:", "Cookie: c=d"))[1].headers


def test_headers_are_a_mapping_that_ignores_case(headers):
    assert isinstance(headers, Mapping)
    assert headers["x-one"] == headers["X-One"] == headers["X-ONE"] == "1"
    assert "x-one" in headers
    assert "X-ONE" in headers
    assert "x-on" not in headers
    assert headers["x-two"] == "é", "latin-1"


def test_headers_iterate_over_names_in_lower_case(headers):
    names = ["host", "x-one", "accept", "x-two", "cookie"]
    assert list(headers) == list(headers.keys()) == names
    assert len(headers) == 5
    assert list(headers.items()) == [(name, headers[name]) for name in names]
    assert list(headers.values()) == [headers[name] for name in names]
    assert dict(headers) == dict(headers.items())


def test_repeated_headers_are_joined_or_listed(headers):
    assert headers["Accept"] == "a, b, "
    assert headers.get_all("ACCEPT") == ["a", "b", ""]
    assert headers.get_all("cookie") == ["c=d"]
    assert headers.get_all("none") == []


def test_repeated_cookies_are_joined_as_a_cookie_is_written(kept):
    """By "; ", as one field of them would be: RFC 6265 section 5.4, RFC 9113 section 8.2.3."""
    headers = kept(get("/", "Cookie: a=1", "X: a", "cookie: b=2; c=3", "X: b"))[1].headers
    assert headers["cookie"] == headers.get("COOKIE") == "a=1; b=2; c=3"
    assert headers.get_all("cookie") == ["a=1", "b=2; c=3"]
    assert dict(headers)["cookie"] == "a=1; b=2; c=3"
    assert headers["x"] == "a, b"


def test_headers_have_the_views_and_the_equality_of_a_mapping(headers):
    assert headers.keys() & {"host", "cookie", "none"} == {"host", "cookie"}
    assert ("cookie", "c=d") in headers.items()
    everything = dict(headers)
    assert headers == everything == {name: everything[name] for name in reversed(everything)}
    assert headers == {name.upper(): value for name, value in everything.items()}
    assert headers != {**everything, "cookie": "other"}
    assert headers != {}
    assert headers != 5
    with pytest.raises(TypeError, match="unhashable"):
        hash(headers)


@pytest.mark.parametrize(
    ("request_", "host"),
    [
        (get("/"), "test"),
        (get("http://example.org:81/path?query"), "example.org:81"),
        (get("http://example.org"), "example.org"),
        (get("/http://example.org"), "test"),
        (get("example.org:443", method="CONNECT"), "example.org:443"),
        (b"GET / HTTP/1.0\r\n\r\n", ""),
    ],
)
def test_the_host_is_the_one_of_the_target_where_that_has_one(kept, request_, host):
    assert kept(request_)[1].host == host


def test_headers_that_are_missing(headers):
    assert headers.get("none") is None
    assert headers.get("none", "default") == "default"
    assert headers.get("HOST", "default") == "test"
    with pytest.raises(KeyError, match="None-Such"):
        headers["None-Such"]


def test_headers_are_read_only(headers):
    with pytest.raises(TypeError):
        headers["x-one"] = "2"
    with pytest.raises(TypeError):
        del headers["x-one"]
    headers.get_all("x-one").append("2")
    assert headers.get_all("x-one") == ["1"]
