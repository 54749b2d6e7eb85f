"""The scanners ``testssl.sh`` and ``sslyze`` look at a server of ours, and find nothing that matters.

They are slow, because each tries hundreds of handshakes; so each looks only at what the other does not.
"""

import json
import os
import subprocess
import sys

import pytest

import goev
import goev.http
from support import need


class Page(goev.http.Connection):
    def on_request(self, request):
        request.respond(200, {}, b"hello")


# The CA of the tests is nobody else's, and has no lists of revoked certificates.
OF_OUR_CA = {"certificate_path_validation", "cert_chain_of_trust", "cert_revocation", "DNS_CAArecord"}


@pytest.fixture
def site(serve, root):
    """``site(kind)``: the name and port of a server with a key of this kind."""

    def start(kind):
        identity = root.issue("localhost", "127.0.0.1", kind=kind, ends=300)
        return f"localhost:{serve(Page, identity, tls={'alpn': ['http/1.1']}).address[1]}"

    return start


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", ["ecdsa", "rsa"])
def test_sslyze_finds_what_mozilla_recommends(site, tmp_path, kind):
    """Versions, cipher suites, groups and known attacks, against Mozilla's "intermediate" configuration."""
    found = tmp_path / "found.json"
    command = [sys.executable, "-m", "sslyze", f"--json_out={found}", "--mozilla_config=intermediate", site(kind)]
    output = subprocess.run(command, capture_output=True, text=True, timeout=100).stdout
    assert {line.split()[1].rstrip(":") for line in output.splitlines() if line.startswith("        * ")} <= OF_OUR_CA
    (scan,) = json.loads(found.read_text())["server_scan_results"]
    assert scan["scan_status"] == "COMPLETED", output
    results = {name: each["result"] for name, each in scan["scan_result"].items() if each["result"] is not None}
    supported = {name for name, each in results.items() if name.endswith("suites") and each["is_tls_version_supported"]}
    assert supported == {"tls_1_2_cipher_suites", "tls_1_3_cipher_suites"}
    assert results["tls_compression"] == {"supports_compression": False}
    assert results["tls_extended_master_secret"] == {"supports_ems_extension": True}
    assert results["openssl_ccs_injection"] == {"is_vulnerable_to_ccs_injection": False}
    assert results["heartbleed"] == {"is_vulnerable_to_heartbleed": False}
    assert results["robot"]["robot_result"].startswith("NOT_VULNERABLE")
    assert results["session_renegotiation"]["supports_secure_renegotiation"]
    assert not results["session_renegotiation"]["is_vulnerable_to_client_renegotiation_dos"]


@pytest.mark.timeout(300)
def test_testssl_finds_nothing_above_low(site, root, tmp_path):
    """Versions, kinds of ciphers and their order, and known attacks."""
    found = tmp_path / "found.json"
    (tmp_path / "ca.pem").write_bytes(root.pem)
    command = [need("testssl", "testssl.sh"), "--warnings", "off", "--quiet", "--color", "0", "--nodns", "none"]
    command += ["--add-ca", tmp_path / "ca.pem", "--jsonfile", found, "-p", "-s", "-P", "-U", site("rsa")]
    # It sleeps behind each message, for servers that are far away. It warns of an openssl without the engine for GOST.
    set_up = {**os.environ, "USLEEP_SND": "0", "USLEEP_REC": "0.02", "NXCONNECT": "127.0.0.1:0", "NO_ENGINE": "true"}
    options = {"capture_output": True, "text": True, "stdin": subprocess.DEVNULL, "env": set_up}
    result = subprocess.run(command, timeout=280, **options)
    assert found.exists(), result.stdout + result.stderr
    findings = json.loads(found.read_text())
    assert {"TLS1_2", "TLS1_3", "cipher_order", "heartbleed", "CCS", "secure_renego", "BREACH"} <= {
        one["id"] for one in findings
    }
    bad = [one for one in findings if one["severity"] not in ("OK", "INFO", "LOW") and one["id"] not in OF_OUR_CA]
    assert not bad
