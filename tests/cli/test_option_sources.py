"""Options come from the command line, the environment and a file, in this order. An error names the place."""

import inspect
import pickle
from pathlib import Path

import pytest

from goev.cli.options import OPTIONS
from goev.service.settings import Logging, Settings


def test_a_bare_target_is_served_with_the_defaults(command):
    assert command("run", "chat:Chat").settings == Settings(target="chat:Chat")


def test_every_class_gets_its_options(command, tmp_path):
    arguments = (
        "--listen :1 --listen unix:/a,:2 --workers 3 --max-input 64k --no-nodelay --pollers 2 --cpus 0 --jitter 0.5"
    )
    arguments += (
        " --log-level debug --access-log - --grace 2m --affinity 0-1 --keepalive none --min-rate 1k,5s --no-asyncio"
    )
    settings = command("run", "chat:Chat", *arguments.split()).settings
    assert settings == Settings(
        target="chat:Chat",
        listen=(":1", "unix:/a", ":2"),
        workers=3,
        jitter=0.5,
        grace=120.0,
        affinity=(0, 1),
        acceptor={"max_input": 65536, "nodelay": False, "keepalive": None, "min_rate": (1024, 5.0)},
        reactor={"pollers": 2, "cpus": [0], "asyncio": False},
        logging=Logging(level="debug", access_log="-"),
    )
    assert pickle.loads(pickle.dumps(settings)) == settings


def test_the_environment_has_every_option_too(command):
    settings = command("run", "chat:Chat", GOEV_LISTEN=":1,:2", GOEV_MAX_INPUT="64k", GOEV_NODELAY="no").settings
    assert settings.listen == (":1", ":2")
    assert settings.acceptor == {"max_input": 65536, "nodelay": False}


def test_the_environment_may_name_the_target(command):
    assert command("run", GOEV_TARGET="chat:Chat").settings.target == "chat:Chat"


def test_an_empty_variable_is_none(command):
    assert command("run", "chat:Chat", GOEV_WORKERS="", GOEV_LISTEN="").settings == Settings(target="chat:Chat")


def test_a_variable_that_looks_like_one_of_ours_is_told(command):
    outcome = command("run", "chat:Chat", GOEV_LISTN=":1", GOEV_PORT="tcp://10.0.0.1:80", GOEV_SERVICE_HOST="10.0.0.1")
    assert outcome.settings == Settings(target="chat:Chat")
    assert outcome.err == "goev: warning: GOEV_LISTN is not known; did you mean GOEV_LISTEN?\n"


FILE = """
target = "chat:Chat"
listen = [":1", "unix:/a"]
workers = 2
max_input = "64k"
high_water = 100_000
write_timeout = "none"
idle_timeout = 5
keepalive = ["1m", 15, 4]
min_rate = [1024, "20s"]
unix_mode = 0o660
affinity = [0, 1]
app_dir = "code"

[log]
level = "warning"
format = "json"
"""


def test_a_file_has_every_option_with_values_of_its_own_and_texts(command, tmp_path):
    (tmp_path / "etc" / "code").mkdir(parents=True)
    (tmp_path / "etc" / "server.toml").write_text(FILE)
    settings = command("run", "etc/server.toml").settings
    assert settings == Settings(
        target="chat:Chat",
        listen=(":1", "unix:/a"),
        workers=2,
        affinity=(0, 1),
        app_dir="etc/code",
        acceptor={
            "max_input": 65536,
            "high_water": 100_000,
            "write_timeout": None,
            "idle_timeout": 5.0,
            "keepalive": (60.0, 15.0, 4),
            "min_rate": (1024, 20.0),
            "unix_mode": 0o660,
        },
        logging=Logging(level="warning", format="json"),
    )


def test_the_command_line_comes_before_the_environment_before_the_file_before_the_default(command, tmp_path):
    (tmp_path / "server.toml").write_text('target = "chat:Chat"\nworkers = 2\nthreads = 2\ngrace = 2\n')
    outcome = command("run", "server.toml", "--workers", 4, GOEV_WORKERS="3", GOEV_THREADS="3")
    settings = outcome.settings
    assert (settings.workers, settings.threads, settings.grace, settings.drain) == (4, 3, 2.0, 2.0)


def test_a_list_of_a_later_source_replaces_that_of_an_earlier_one(command, tmp_path):
    (tmp_path / "server.toml").write_text('target = "chat:Chat"\nlisten = [":1", ":2"]\n')
    assert command("run", "server.toml", GOEV_LISTEN=":3").settings.listen == (":3",)
    assert command("run", "server.toml", "--listen", ":4", GOEV_LISTEN=":3").settings.listen == (":4",)


def test_none_takes_back_a_limit_of_the_file(command, tmp_path):
    (tmp_path / "server.toml").write_text('target = "chat:Chat"\nmax_requests = 1000\nidle_timeout = 5\n')
    settings = command("run", "server.toml", "--max-requests", "none", GOEV_IDLE_TIMEOUT="none").settings
    assert settings.max_requests is None
    assert settings.acceptor == {"idle_timeout": None}


def test_paths_in_a_file_count_from_its_folder(command, tmp_path):
    (tmp_path / "etc" / "run").mkdir(parents=True)
    text = 'target = "chat:Chat"\npid_file = "run/pid"\naccess_log = "-"\n'
    (tmp_path / "etc" / "server.toml").write_text(text)
    settings = command("run", "etc/server.toml").settings
    assert settings.pid_file == "etc/run/pid"
    assert settings.logging.access_log == "-"
    assert settings.app_dir == "."
    absolute = tmp_path / "etc" / "absolute.toml"
    absolute.write_text('target = "chat:Chat"\npid_file = "/run/pid"\n')
    assert command("run", absolute).settings.pid_file == "/run/pid"


def test_an_option_means_the_same_in_the_three_places():
    """By the reading of its default, as text and as a value of TOML."""
    for option in OPTIONS.values():
        default = option.default
        if default in (inspect.Parameter.empty, None, ()) or isinstance(default, str):
            continue
        native = list(default) if isinstance(default, tuple) else default
        assert option.kind.take(native) == option.kind.read(option.kind.show(default)), option.name


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("workers = 2", "server.toml: the key target is missing"),
        ('target = "other.toml"', "server.toml: the key target is missing"),
        ("target = 3", "server.toml: the key target is missing"),
        ("target = ", "server.toml: Invalid value"),
        ('target = "chat:Chat"\nworker = 2', "server.toml: worker is not an option; did you mean workers?"),
        ('target = "chat:Chat"\nmax-input = 2', "server.toml: max-input is not an option; did you mean max_input?"),
        ('target = "chat:Chat"\nzzz = 2', "server.toml: zzz is not an option"),
        (
            'target = "chat:Chat"\n[tls]\ncertificat = "a"',
            "server.toml: tls.certificat is not an option; did you mean tls_c",
        ),
        (
            'target = "chat:Chat"\n[[listen]]\naddress = ":1"',
            "server.toml: listen: [{'address': ':1'}] is not a list of",
        ),
        ('target = "chat:Chat"\nlisten = ":1,,"', "server.toml: listen: ':1,,' is not a list of addresses"),
        ('target = "chat:Chat"\nworkers = "many"', "server.toml: workers: 'many' is not a whole number"),
        ('target = "chat:Chat"\nworkers = true', "server.toml: workers: True is not a whole number"),
        ('target = "chat:Chat"\nmax_input = 0', "server.toml: max_input: must be from 1 to 1073741824, not 0"),
        ('target = "chat:Chat"\nnodelay = 1', "server.toml: nodelay: 1 is not true or false"),
        ('target = "chat:Chat"\nwhen_full = 1', "server.toml: when_full: 1 is not one of wait, refuse"),
        (
            'target = "chat:Chat"\n[tls]\nnames = {"a" = ["b"]}',
            "server.toml: tls.names: ['b'] is not a certificate and its",
        ),
    ],
)
def test_a_wrong_file_is_refused_with_one_line(command, tmp_path, text, complaint):
    (tmp_path / "server.toml").write_text(text + "\n")
    assert command("run", "server.toml").complaint.startswith(complaint)


def test_a_file_that_cannot_be_read_is_refused(command, tmp_path):
    assert command("run", "none.toml").complaint == "cannot read none.toml: No such file or directory"
    (tmp_path / "folder.toml").mkdir()
    assert command("run", "folder.toml").complaint == "cannot read folder.toml: Is a directory"
    (tmp_path / "latin.toml").write_bytes(b'target = "\xe9"')
    assert "latin.toml: 'utf-8' codec" in command("run", "latin.toml").complaint


WRONG = [
    (["--lisen", ":1"], "there is no option --lisen; did you mean --listen?"),
    (["--max-input"], "Option '--max-input' requires an argument."),
    (["--max-input", "64q"], "--max-input: '64q' is not a size, such as 65536, 64k, 1m or 2g"),
    (["--max-input", "0"], "--max-input: must be from 1 to 1073741824, not 0"),
    (["--backlog", "0"], "--backlog: must be from 1 to 65535, not 0"),
    (["--unix-mode", "7777", "--listen", "unix:/a"], "--unix-mode: must be from 0o000 to 0o777, not 0o7777"),
    (["--unix-mode", "660"], "--unix-mode: is for Unix sockets with a path; address names none"),
    (["--low-water", "1m"], "--low-water: must be from 0 to 65536, not 1048576"),
    (["--high-water", "1000"], "low_water must be from 0 to 1000, not 16384"),
    (["--access-log-sample", "2"], "--access-log-sample: must be more than 0 and at most 1, not 2"),
    (["--cpu-steering"], "--cpu-steering: cpu_steering=True needs reuse_port=True"),
    (["--proxy-protocol"], "--proxy-protocol: "),
    (["--proxy-from", "x", "--proxy-protocol"], "--proxy-from: "),
    (["--listen", "8080"], '--listen: address "8080" has no port'),
    (["--listen", ":99999"], '--listen: address ":99999" has the port 99999, the limit is 65535'),
    (["--metrics", "x"], '--metrics: address "x" has no port'),
    (["--pollers", "0"], "--pollers: must be from 1 to 1024, not 0"),
    (["--stall-warning", "1us"], "--stall-warning: must be at least 0.001 seconds"),
    (["--cpus", "99999"], "--cpus: must be among those allowed here"),
    (["--workers", "0"], "--workers: must be at least 1, not 0"),
    (["--workers", "x"], "--workers: 'x' is not a whole number"),
    (["--grace", "-1"], "--grace: must be at least 0 seconds, not -1"),
    (["--jitter", "2"], "--jitter: must be from 0 to 1, not 2"),
    (["--access-log-sample", "0"], "--access-log-sample: must be more than 0 and at most 1, not 0"),
    (["--interface", "cgi"], "--interface: 'cgi' is not one of auto, goev, asgi, wsgi"),
    (["--min-rate", "0,1"], "--min-rate: the rate of min_rate must be more than 0 bytes a second, not 0"),
    (["--tls-key", "key.pem"], "--tls-key needs --tls-certificate"),
    (["--tls-alpn", "h2"], "--tls-alpn needs --tls-certificate and --tls-key"),
    (
        ["--tls-certificate", "no.pem", "--tls-key", "no.pem"],
        '--tls-certificate: [Errno 2] cannot read certificate "no.pem"',
    ),
    (["one", "two"], "Got unexpected extra argument"),
]


@pytest.mark.parametrize(
    ("arguments", "complaint"), WRONG, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_wrong_input_is_one_line_and_the_status_2(command, arguments, complaint):
    assert command("run", "chat:Chat", *arguments).complaint.startswith(complaint)


def test_an_error_names_the_variable(command):
    assert command("run", "chat:Chat", GOEV_MAX_INPUT="0").complaint.startswith("GOEV_MAX_INPUT: must be from 1")
    assert command("run", "chat:Chat", GOEV_GRACE="x").complaint.startswith("GOEV_GRACE: 'x' is not a time")


def test_several_errors_are_counted(command):
    outcome = command("run", "chat:Chat", "--max-input", 0, "--backlog", 0, "--workers", 0)
    assert outcome.complaint == "--workers: must be at least 1, not 0 ('goev check' tells of 2 more)"


def test_nothing_is_bound_and_no_target_imported_for_a_check_of_options(command, tmp_path):
    (tmp_path / "chat.py").write_text("raise SystemExit('imported')\n")
    assert command("run", "chat:Chat", "--listen", f"unix:{tmp_path}/socket").settings
    assert not Path(tmp_path / "socket").exists()
