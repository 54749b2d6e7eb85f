"""The real Prometheus scrapes a service: the target is up, nothing is complained of, and queries find the values."""

import json
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import goev
from goev.metrics import Totals, process_figures, serve
from metrics_support import made_up
from real_servers import free_port
from support import PATIENCE, ROOT, Client, Echo, eventually, need

DEPLOY = ROOT / "examples" / "deploy"


@pytest.fixture
def everything() -> str:
    """The text of a service of two workers, with all metrics that there are."""
    totals = Totals()
    counter = {"name": "orders", "type": "counter", "help": "Orders.", "unit": "", "samples": [["orders_total", {}, 2]]}
    for pid in (1, 2):
        totals.update(pid, made_up(pid, application=[counter]))
    restarts = {"killed": 1}
    process = process_figures()
    return totals.text({"process": process, "restarts": restarts, "workers_wanted": 2, "workers_ready": 2})


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[Any]:
    """``prometheus(address)``: a Prometheus that scrapes there every 0.2 s, as ``ask(path)``, with its log file."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(address: tuple[str, int]) -> Any:
        port, log = free_port(), tmp_path / "log"
        target = f"{address[0]}:{address[1]}"
        (tmp_path / "prometheus.yml").write_text(
            "global: {scrape_interval: 200ms, scrape_timeout: 200ms}\n"
            f"rule_files: [{DEPLOY / 'goev-alerts.yml'}]\n"
            f"scrape_configs: [{{job_name: goev, static_configs: [{{targets: ['{target}']}}]}}]\n"
        )
        command = [need("prometheus"), f"--config.file={tmp_path / 'prometheus.yml'}"]
        command += [f"--storage.tsdb.path={tmp_path / 'data'}", f"--web.listen-address=127.0.0.1:{port}"]
        with log.open("wb") as output:
            processes.append(subprocess.Popen([*command, "--log.level=debug"], stdout=output, stderr=output))

        def ask(path: str, **query: str) -> Any:
            assert processes[0].poll() is None, log.read_text()
            try:
                url = f"http://127.0.0.1:{port}{path}?{urllib.parse.urlencode(query)}"
                with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
                    return json.load(answer)["data"]
            except OSError:
                return None

        return ask, log

    yield start
    for process in processes:
        process.kill()
        process.wait(PATIENCE)


def test_prometheus_scrapes_and_queries(prometheus: Any) -> None:
    with goev.Reactor(1, measure=True) as reactor:
        acceptor = goev.Acceptor(reactor, "127.0.0.1:0", Echo)
        reactor.start()
        with serve(reactor, "127.0.0.1:0") as server, Client(acceptor.address) as client:
            client.ask(b"12345")
            ask, log = prometheus(server.address)

            def number(query: str) -> float | None:
                found = (ask("/api/v1/query", query=query) or {"result": []})["result"]
                return float(found[0]["value"][1]) if found else None

            eventually(lambda: number("goev_received_bytes_total") == 5, "the bytes are known", 20)
            assert number('up{job="goev"}') == 1
            assert number("goev_connections_open") == 1
            assert 0 < (number("histogram_quantile(0.5, goev_callback_seconds_bucket)") or 0) < 1
            (target,) = ask("/api/v1/targets")["activeTargets"]
            assert (target["health"], target["lastError"]) == ("up", "")
            metadata = ask("/api/v1/metadata")
            assert metadata["goev_received_bytes"][0]["type"] == "counter"
            assert metadata["goev_callback_seconds"][0]["type"] == "histogram"
            groups = ask("/api/v1/rules")["groups"]
            assert {rule["health"] for group in groups for rule in group["rules"]} <= {"ok", "unknown"}
            text = log.read_text()
            complaints = [line for line in text.splitlines() if "level=warn" in line or "level=error" in line]
            assert not [line for line in complaints if "scrape" in line or "parse" in line.lower()], complaints


def test_promtool_finds_nothing_wrong_with_the_older_text(everything: str) -> None:
    from goev.metrics.exposition import plain_of

    command = [need("promtool", "prometheus"), "check", "metrics"]
    checked = subprocess.run(command, input=plain_of(everything), capture_output=True, text=True, timeout=PATIENCE)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_promtool_takes_the_alert_rules() -> None:
    command = [need("promtool", "prometheus"), "check", "rules", "--lint-fatal", str(DEPLOY / "goev-alerts.yml")]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert checked.returncode == 0, checked.stdout + checked.stderr
