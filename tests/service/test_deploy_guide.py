"""The guide to deployment: its program runs, its links lead somewhere, its tables are true, its files are valid."""

import dataclasses
import re
import subprocess

import guides
from goev.service import Settings
from service_support import SLOW, children, request
from support import ROOT, Client, eventually, need

GUIDE = guides.Guide("deploy.md", 8080)
DEPLOY = ROOT / "examples" / "deploy"


def test_its_program_serves_by_two_workers(tmp_path):
    with GUIDE.program(tmp_path, "", port=0) as child:
        eventually(lambda: "serving on" in child.errors or child.process.poll() is not None, "it serves", SLOW)
        port = int(re.findall(r"serving on 127\.0\.0\.1:(\d+)", child.errors)[0])
        with Client(("127.0.0.1", port)) as client:
            pid = int(request(client).rpartition(b" ")[2])
        assert pid in children(child.pid)
        child.interrupt()
        assert child.end() == 0


def test_its_links_lead_somewhere():
    assert GUIDE.dead_links() == []


def test_its_table_of_workers_has_the_defaults_of_the_settings():
    defaults = {field.name: field.default for field in dataclasses.fields(Settings)}
    rows = re.findall(r"(?m)^\| (`\w+`(?:, `\w+`)*) \| `([^|]+)` \|", GUIDE.text)
    assert len(rows) >= 10
    for names, default in rows:
        for name in re.findall(r"`(\w+)`", names):
            assert repr(defaults[name]) == default.replace("'", '"').replace('"', "'"), name


def test_systemd_takes_the_unit_files(tmp_path):
    analyze = need("systemd-analyze", "systemd")
    for name in ("goev.service", "goev.socket"):
        text = (DEPLOY / name).read_text().replace("/srv/site/.venv/bin/goev", "/bin/true")
        (tmp_path / name).write_text(text)
    command = [analyze, "verify", "--man=no", str(tmp_path / "goev.service"), str(tmp_path / "goev.socket")]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert str(tmp_path) not in run.stderr, run.stderr
