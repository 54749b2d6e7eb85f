"""Django runs unchanged: sessions, forms and uploads, streams, files, sync and async views."""

from pathlib import Path

import httpx
import pytest

import django_settings
import django_site
from hosting import hosted
from support import PATIENCE


@pytest.fixture(scope="module")
def client():
    with (
        django_settings.urls(django_site),
        hosted(django_site.application) as url,
        httpx.Client(base_url=url, timeout=PATIENCE) as client,
    ):
        yield client


def test_views_and_sessions(client):
    assert client.get("/").json() == {"visits": 1, "secure": False, "path": "/"}
    assert client.get("/").json()["visits"] == 2
    assert client.get("/later?q=x").text == "later x"
    assert client.get("/nothing").status_code == 404


def test_forms_and_uploads(client):
    answer = client.post("/upload", data={"name": "ada"}, files={"file": ("a.txt", bytes(3_000_000))})
    assert answer.json() == {"name": "ada", "size": 3_000_000}


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume")  # Django's own way with files
def test_streams_and_files(client):
    assert client.get("/stream").text == "0\n1\n2\n"
    assert client.get("/file").text == Path(django_site.__file__).read_text()


def test_an_exception_is_500(client):
    """Django itself logs it."""
    assert client.get("/broken").status_code == 500
    assert client.get("/later?q=y").text == "later y"
