"""Flask and Django unchanged, driven by httpx and curl."""

import io
import subprocess
from pathlib import Path

import pytest

from support import need, skip_outside_ci

try:
    import flask
    import httpx

    import django_settings
except ImportError:
    skip_outside_ci("flask, django and httpx are not installed (pip install -r requirements-dev.txt)")

KEY = "test"
FILE = Path(__file__)


def flask_app() -> flask.Flask:
    app = flask.Flask("site", static_folder=str(FILE.parent), static_url_path="/static")
    app.secret_key = KEY

    @app.post("/form")
    def form():
        return {"name": flask.request.form["name"], "file": flask.request.files["file"].read().decode()}

    @app.post("/json")
    def json():
        return flask.jsonify(flask.request.get_json())

    @app.get("/count")
    def count():
        flask.session["count"] = flask.session.get("count", 0) + 1
        return str(flask.session["count"])

    @app.get("/stream")
    def stream():
        return flask.Response((f"line {number}\n" for number in range(1000)), mimetype="text/plain")

    @app.post("/upload")
    def upload():
        return str(sum(len(data) for data in iter(lambda: flask.request.stream.read(100_000), b"")))

    @app.get("/download")
    def download():
        return flask.send_file(FILE)

    @app.get("/wrong")
    def wrong():
        raise RuntimeError("wrong")

    return app


def django_app():
    """The application, and the views by their paths."""
    from django import http
    from django.core.wsgi import get_wsgi_application
    from django.urls import path

    def form(request):
        return http.JsonResponse({"name": request.POST["name"], "file": request.FILES["file"].read().decode()})

    def count(request):
        request.session["count"] = request.session.get("count", 0) + 1
        return http.HttpResponse(str(request.session["count"]))

    def stream(request):
        return http.StreamingHttpResponse(f"line {number}\n" for number in range(1000))

    def upload(request):
        return http.HttpResponse(str(sum(len(data) for data in iter(lambda: request.read(100_000), b""))))

    def json(request):
        return http.HttpResponse(request.body, content_type="application/json")

    def download(request):
        return http.FileResponse(FILE.open("rb"))

    def wrong(request):
        raise RuntimeError("wrong")

    views = {"form": form, "count": count, "stream": stream, "upload": upload, "json": json}
    urls = [path(name, view) for name, view in {**views, "download": download, "wrong": wrong}.items()]
    return get_wsgi_application(), type("Urls", (), {"urlpatterns": urls})


@pytest.fixture(scope="module")
def apps():
    django, urls = django_app()
    with django_settings.urls(urls):
        yield {"flask": flask_app(), "django": django}


@pytest.fixture(params=["flask", "django"])
def http(request, apps, site):
    with httpx.Client(base_url=site(apps[request.param]).url, trust_env=False) as client:
        yield client


def test_a_form_with_a_file(http):
    answer = http.post("/form", data={"name": "Zoë"}, files={"file": ("a.txt", io.BytesIO(b"content"))})
    assert answer.json() == {"name": "Zoë", "file": "content"}


def test_json_both_ways(http):
    assert http.post("/json", json={"a": [1, 2]}).json() == {"a": [1, 2]}


def test_a_session_in_a_cookie(http):
    assert [http.get("/count").text for _ in range(3)] == ["1", "2", "3"]


def test_a_stream(http):
    with http.stream("GET", "/stream") as answer:
        assert list(answer.iter_lines()) == [f"line {number}" for number in range(1000)]


def test_a_large_upload(http):
    assert http.post("/upload", content=bytes(20_000_000)).text == "20000000"


def test_a_file(http):
    answer = http.get("/download")
    assert (answer.content, answer.headers["content-length"]) == (FILE.read_bytes(), str(FILE.stat().st_size))


def test_a_fault_is_500(http):
    assert http.get("/wrong").status_code == 500
    assert http.get("/count").status_code == 200


def test_pages_that_are_not_there(http):
    assert http.get("/none").status_code == 404
    assert http.head("/count").status_code == 200


def test_static_files_of_flask_by_curl(apps, site):
    url = f"{site(apps['flask']).url}/static/{FILE.name}"
    got = subprocess.run([need("curl"), "-sS", "--fail", url], capture_output=True, timeout=20, check=True)
    assert got.stdout == FILE.read_bytes()


def test_an_upload_by_curl_waits_for_100_continue(apps, site):
    command = [need("curl"), "-sS", "--fail", "-H", "Expect: 100-continue", "--data-binary", "@-"]
    command.append(f"{site(apps['flask']).url}/upload")
    got = subprocess.run(command, input=bytes(3_000_000), capture_output=True, timeout=20, check=True)
    assert got.stdout == b"3000000"
