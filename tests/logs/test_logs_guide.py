"""`docs/logs.md` tells the truth: its programs run, its tables are the code's, and logrotate does as it says."""

import json
import re
import subprocess

import pytest
from test_docs import codes, rows

import goev.logs
from guides import FENCED, Guide, output
from support import ROOT, eventually, need

GUIDE = Guide("logs.md", 8080)
LOGROTATE = next(text for language, text in FENCED.findall(GUIDE.text) if language == "logrotate")
LINE = next(text for language, text in FENCED.findall(GUIDE.text) if language == "json")


def fetch(port):
    subprocess.run([need("curl"), "-sf", f"http://127.0.0.1:{port}/x"], check=True, capture_output=True)


def test_the_access_log_is_written_and_rotated_by_logrotate(tmp_path):
    logrotate = need("logrotate", None, "/usr/sbin")
    tmp_path.chmod(0o755)  # logrotate refuses a folder that others may write to
    with GUIDE.serving(tmp_path, "An access log") as (port, child):
        fetch(port)
        path = tmp_path / "access.log"
        eventually(lambda: path.read_text().count("GET /x HTTP/1.1") == 1, "the request is logged")
        (tmp_path / "pid").write_text(str(child.pid))
        text = LOGROTATE.replace("/var/log/site", str(tmp_path)).replace("/run/site.pid", str(tmp_path / "pid"))
        (tmp_path / "conf").write_text(text)
        (tmp_path / "conf").chmod(0o644)
        state = tmp_path / "state"
        subprocess.run([logrotate, "--force", "--state", state, tmp_path / "conf"], check=True)
        eventually(path.exists, "the log is opened anew")
        fetch(port)
        eventually(lambda: path.read_text().count("GET /x HTTP/1.1") == 1, "the new file gets the second")
        assert (tmp_path / "access.log.1").read_text().count("GET /x HTTP/1.1") == 1


def test_log_lines_are_as_the_page_shows(tmp_path):
    with GUIDE.program(tmp_path, "Log lines as text and as JSON") as child:
        assert output(child) == ""
        shown, printed = json.loads(LINE), json.loads(child.errors)
        assert printed | {"time": shown["time"]} == shown
        assert list(printed) == list(shown)
    with GUIDE.program(tmp_path, "Log lines as text and as JSON", 1) as child:
        assert output(child) == ""
        assert json.loads(child.errors)["message"] == "order 17"


def test_the_table_has_every_value_that_there_is(tmp_path):
    documented = [name for row in rows(ROOT / "docs" / "logs.md", "value") for name in codes(row[0])]
    assert documented.pop() == "response.NAME"
    assert documented.pop() == "request.NAME"
    for name in documented:
        goev.logs.AccessLog(tmp_path / "log", format=f"{{{name}}}")
    with pytest.raises(ValueError, match="there are") as raised:
        goev.logs.AccessLog(tmp_path / "log", format="{nothing}")
    assert set(re.search("there are (.*), request.NAME", str(raised.value))[1].split(", ")) == set(documented)


def test_every_program_was_tried_and_links_lead_somewhere():
    assert set(GUIDE.programs) == {
        ("An access log", 0),
        ("Log lines as text and as JSON", 0),
        ("Log lines as text and as JSON", 1),
    }
    assert GUIDE.dead_links() == []
