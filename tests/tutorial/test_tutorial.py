"""The tutorial tells the truth: the program of each step does what its page shows, by the code that the page shows."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_readme import listens
from websockets.sync.client import ClientConnection, connect

from support import PATIENCE, ROOT, Child, Client, eventually, need
from tutorial_support import NAMES, PROGRAM, STEPS, Page, Terminal, copied, service, serving, shown

PAGES = {name[:2]: Page(name) for name in NAMES}
HTTP = "http://127.0.0.1:8080"
HEALTH = "curl --cacert cert.pem https://localhost:8443/health"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    with copied(tmp_path) as folder:
        yield folder


@pytest.fixture
def certified(folder: Path) -> Path:
    """The folder, with the certificate that the command of step 7 makes."""
    need("openssl")
    (command,) = [line for line in PAGES["07"].commands() if line.startswith("openssl")]
    subprocess.run(["sh", "-ec", command], cwd=folder, check=True, capture_output=True)
    return folder


# --- the pages ---


def test_there_are_ten_steps_each_with_a_program_that_leads_to_the_next():
    assert list(PAGES) == [f"{number:02}" for number in range(1, 11)]
    for page, name in zip(PAGES.values(), NAMES[1:], strict=False):
        assert page.text.rstrip().splitlines()[-1].endswith(f"]({name}).")


@pytest.mark.parametrize("step", PAGES)
def test_a_page_has_its_parts_and_no_dead_links(step):
    page = PAGES[step]
    assert re.match(rf"# Step {int(step)}: ", page.text)
    assert re.findall(r"(?m)^## (.+)$", page.text)[:3] == ["The program", "Try it", "When it goes wrong"]
    assert page.dead_links() == []
    assert not [line for line in page.text.splitlines() if len(line) > 125]


@pytest.mark.parametrize("step", PAGES)
def test_each_line_of_code_of_a_page_stands_so_in_its_program(step):
    (program,) = (ROOT / "examples" / "tutorial").glob(f"step{step}_*")
    assert f"(../../examples/tutorial/{program.name})" in PAGES[step].text
    blocks = PAGES[step].of("python", "toml")
    assert blocks
    assert not [block for block in blocks if block not in program.read_text()]


def test_the_index_has_all_steps():
    index = (ROOT / "docs" / "tutorial" / "README.md").read_text()
    assert re.findall(r"\((\d\d-\w+\.md)\)", index) == NAMES


# --- steps 1 to 3: bytes, messages, a room ---


def test_step_1_names_the_versions_that_the_build_needs():
    (rust,) = re.findall(r'(?m)^rust-version = "(.+)"$', (ROOT / "Cargo.toml").read_text())
    (python,) = re.findall(r'(?m)^requires-python = ">=(.+)"$', (ROOT / "pyproject.toml").read_text())
    assert f"[cargo](https://rustup.rs) {rust} or later" in PAGES["01"].text
    assert f"Python {python} or later" in PAGES["01"].text


def test_step_1_echoes(folder):
    with serving(folder, PAGES["01"]) as port:
        terminal = Terminal(folder, PAGES["01"], port)
        terminal.type("hello")
        terminal.reads("hello")
        terminal.leave()
    assert PAGES["01"].shows(*terminal.lines)


def test_step_1_says_that_its_address_is_in_use(folder):
    with serving(folder, PAGES["01"]) as port:
        program = folder / "step01_echo.py"
        program.write_text(program.read_text().replace(":0", f":{port}"))
        with Child("-c", PROGRAM, str(folder), program.name) as second:
            assert second.end() == 1
    assert PAGES["01"].shows(second.errors.splitlines()[-1].replace(f":{port}:", ":8080:"))


def test_step_1_logs_and_warns_of_mistakes(folder):
    program = folder / "step01_echo.py"
    text = program.read_text().replace("self.write(", "self.wriet(")
    program.write_text(text.replace("\n\n\nif", "\n\n    def onClose(self, error): ...\n\n\nif"))
    with Child("-W", "default", "-c", PROGRAM, str(folder), program.name) as child:
        port = eventually(lambda: re.search(r"RuntimeWarning.*\n", child.errors) and listens(child.pid), "it serves")
        with Client(("127.0.0.1", port)) as client:
            client.send(b"hello")
            assert client.receive_all() == b""
            line = f"exception in on_read of Echo with {client.name}"
        assert line in child.errors
        child.interrupt()
        child.end()
    assert PAGES["01"].shows(re.sub(r"\d+$", "40298", line))
    assert PAGES["01"].shows(re.findall(r"RuntimeWarning.*", child.errors)[0])


def test_step_2_answers_lines_and_ends_at_quit(folder):
    with serving(folder, PAGES["02"]) as port:
        terminal = Terminal(folder, PAGES["02"], port)
        for line in ("hello", "quit"):
            terminal.type(line)
            terminal.reads(line.upper())
        terminal.ends()
        with Client(("127.0.0.1", port)) as client:
            client.send(b"x" * 1001)
            assert client.receive_all() == b""
    assert PAGES["02"].shows(*terminal.lines)


def test_step_3_lets_two_talk(folder):
    with serving(folder, PAGES["03"]) as port:
        ada = Terminal(folder, PAGES["03"], port)
        ada.reads("your name?")
        ada.type("Ada")
        ada.reads("Ada is here")
        bob = Terminal(folder, PAGES["03"], port)
        bob.reads("your name?")
        bob.type("Bob")
        bob.reads("Bob is here")
        bob.type("hello")
        bob.reads("Bob: hello")
        bob.leave()
        for line in ("Bob is here", "Bob: hello", "Bob has left"):
            ada.reads(line)
        ada.leave()
    assert PAGES["03"].shows(*ada.lines)
    assert PAGES["03"].shows(*bob.lines)


# --- steps 4 to 6: the browser, and tests ---


def test_step_4_answers_curl_and_serves_the_page(folder):
    with serving(folder, PAGES["04"]) as port:
        health = shown(folder, PAGES["04"], f"curl {HTTP}/health", port)
        missing = shown(folder, PAGES["04"], f"curl -i {HTTP}/nowhere", port)
        with Client(("127.0.0.1", port)) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            page = client.receive_all()
    assert health.startswith("well\n")
    assert missing.startswith("HTTP/1.1 404 Not Found\n")
    assert "\n\nnothing here\n" in missing
    assert page.endswith((STEPS / "chat.html").read_bytes())
    assert b'<link rel="icon" href="data:,">' in page  # else the console of the browser has the 404 of an icon
    assert PAGES["04"].shows("well")
    assert PAGES["04"].shows("HTTP/1.1 404 Not Found")


def test_step_4_tells_of_a_request_without_an_answer(folder):
    program = folder / "step04_page.py"
    (case,) = re.findall(r'`(case "/forgot": pass)`', PAGES["04"].text)
    program.write_text(program.read_text().replace("case _:", f"{case}\n            case _:"))
    with Child("-c", PROGRAM, str(folder), program.name) as child:
        port = eventually(lambda: listens(child.pid), "it serves")
        with Client(("127.0.0.1", port)) as client:
            client.send(b"GET /forgot HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.receive_all().startswith(b"HTTP/1.1 500 ")
        child.interrupt()
        child.end()
    assert PAGES["04"].shows(re.sub(r"(?<=127\.0\.0\.1:)\d+", "40308", child.complaints.rstrip()))


def person(name: str, port: int, **options: object) -> ClientConnection:
    return connect(f"ws://127.0.0.1:{port}/chat?name={name}", proxy=None, **options)


def meet(ada_port: int, bob_port: int) -> list[str]:
    """Ada and Bob join; Bob says hello. All that Ada reads."""
    with person("Ada", ada_port) as ada:
        seen = [ada.recv(PATIENCE)]
        with person("Bob", bob_port) as bob:
            seen.append(ada.recv(PATIENCE))
            assert bob.recv(PATIENCE) == seen[-1]
            bob.send("hello")
            seen.append(ada.recv(PATIENCE))
            assert bob.recv(PATIENCE) == seen[-1]
        assert ada.recv(PATIENCE) == "Bob has left"
    return [str(line) for line in seen]


def test_step_5_lets_two_talk_and_tells_curl_that_it_is_no_websocket(folder):
    with serving(folder, PAGES["05"]) as port:
        seen = meet(port, port)
        refused = shown(folder, PAGES["05"], f"curl -i {HTTP}/chat", port)
    assert PAGES["05"].shows(*seen)
    assert refused.startswith("HTTP/1.1 426 Upgrade Required\n")
    assert PAGES["05"].shows("HTTP/1.1 426 Upgrade Required")


def test_step_5_refuses_pages_of_other_sites_and_long_messages(folder):
    with serving(folder, PAGES["05"]) as port:
        with pytest.raises(Exception, match="403"):
            person("Eve", port, origin="http://elsewhere.example")
        with person("Ada", port, origin=f"http://127.0.0.1:{port}") as ada:
            ada.recv(PATIENCE)
            ada.send("x" * 4001)
            with pytest.raises(Exception, match="1009"):
                ada.recv(PATIENCE)


def test_step_6_passes(folder):
    (command,) = PAGES["06"].commands()
    words = [sys.executable, "-m", *command.split(), "-p", "no:cacheprovider", "-c", str(ROOT / "pyproject.toml")]
    run = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stdout
    assert PAGES["06"].shows(re.findall(r"\d+ passed", run.stdout)[0])


# --- steps 7 to 9: TLS, a service, metrics ---


def test_step_7_serves_https(certified):
    page = PAGES["07"]
    with serving(certified, page) as port:
        assert shown(certified, page, HEALTH, port).startswith("well\n")
        distrusted = shown(certified, page, "curl https://localhost:8443/health", port)
        assert page.shows(re.findall(r"curl: \(60\).*", distrusted)[0])
        plain = shown(certified, page, "curl http://localhost:8443/", port)
        assert page.shows(plain.splitlines()[-1])
    assert page.shows("well")


def test_step_7_names_the_file_that_is_missing(folder):
    with Child("-c", PROGRAM, str(folder), "step07_tls.py") as child:
        assert child.end() == 1
    assert PAGES["07"].shows(child.errors.splitlines()[-1])


def test_step_8_is_checked_serves_and_takes_new_code_by_a_reload(certified):
    page = PAGES["08"]
    run = [sys.executable, "-m", "goev"]
    check = subprocess.run([*run, "check", "step08_server.toml"], cwd=certified, capture_output=True, text=True)
    assert page.shows((check.stdout + check.stderr).strip())
    program = certified / "step04_page.py"
    with service(certified, "goev run step08_server.toml") as (port, child):
        assert shown(certified, PAGES["07"], HEALTH, port).startswith("well\n")
        program.write_text(program.read_text().replace('b"well', 'b"very well'))
        (reload,) = [line for line in page.commands() if line.startswith("kill")]
        subprocess.run(["sh", "-ec", reload], cwd=certified, check=True)
        asked = lambda: shown(certified, PAGES["07"], HEALTH, port).startswith("very well\n")  # noqa: E731
        eventually(asked, "the new code serves", 2 * PATIENCE)
        program.write_text("raise ValueError('a mistake')")
        subprocess.run(["sh", "-ec", reload], cwd=certified, check=True)
        eventually(lambda: "a mistake" in child.errors, "the log has the traceback", 2 * PATIENCE)
        assert asked()


def test_step_8_names_a_misspelled_option(certified):
    text = (certified / "step08_server.toml").read_text()
    (certified / "wrong.toml").write_text(text.replace("max_connections =", "max_conections ="))
    run = [sys.executable, "-m", "goev", "check", "wrong.toml"]
    check = subprocess.run(run, cwd=certified, capture_output=True, text=True)
    assert check.returncode == 1
    assert PAGES["08"].shows((check.stdout + check.stderr).strip())


def test_step_8_puts_a_service_for_systemd_in_place(certified, tmp_path):
    page = PAGES["08"]
    (tmp_path / "site").mkdir()
    places = {"/srv": tmp_path, "/etc/systemd/system": tmp_path, "../deploy": ROOT / "examples" / "deploy"}
    for line in page.commands():
        if line.startswith("sudo cp "):
            for place, instead in places.items():
                line = line.replace(place, str(instead))
            subprocess.run(["sh", "-ec", line.removeprefix("sudo ")], cwd=certified, check=True)
    unit = (tmp_path / "goev.service").read_text()
    (command,) = page.of("ini")
    assert command.partition(" run ")[0] in unit
    assert {"User=site", "WorkingDirectory=/srv/site", "PrivateTmp=true"} <= set(unit.splitlines())
    command = command.replace("/tmp/", f"{tmp_path}/").replace(" :8443", " 127.0.0.1:8443")
    with service(tmp_path / "site", command) as (port, child):
        assert shown(certified, PAGES["07"], HEALTH, port).startswith("well\n")
        assert int((tmp_path / "chat.pid").read_text()) == child.pid


def test_step_9_shows_its_figures(folder):
    page = PAGES["09"]
    start, figures, ready = page.commands()
    with service(folder, start) as (port, child):
        metrics = int(re.findall(r"health checks on 127\.0\.0\.1:(\d+)", child.errors)[0])
        with person("Ada", port) as ada:
            ada.recv(PATIENCE)
            ada.send("hello")
            ada.recv(PATIENCE)
            lines = shown(folder, page, figures, metrics).splitlines()
        assert shown(folder, page, ready, metrics).startswith("ready\n")
    assert page.shows(*lines)
    assert page.shows("ready")
