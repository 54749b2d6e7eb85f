"""The packages of a release: their contents, their names, and the workflows that publish them.

The wheel is the one that `make wheel` built. All others are built and tried by `make wheels` (docs/releasing.md).
"""

import importlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from guides import Guide
from support import ROOT, skip_outside_ci

sys.path[:0] = [str(ROOT / "tools" / "wheels"), str(ROOT / "tools")]
audit = importlib.import_module("audit")
hosts = importlib.import_module("hosts")
matrix = importlib.import_module("matrix")
notes = importlib.import_module("notes")

GUIDE = ROOT / "docs" / "releasing.md"
WORKFLOWS = ROOT / ".github" / "workflows"
NATIVE = matrix.Wheel(f"{sys.version_info.major}.{sys.version_info.minor}", "gnu", os.uname().machine)
TAG = "musllinux_1_2_x86_64"


@pytest.fixture(scope="module")
def wheel() -> Path:
    [built] = (ROOT / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def sdist(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    maturin = Path(sys.executable).with_name("maturin")
    subprocess.run([maturin, "sdist", "--out", folder], cwd=ROOT, check=True, capture_output=True)
    [made] = folder.glob("*.tar.gz")
    return made


def changed(wheel: Path, folder: Path, *, without: str = "", extra: str = "", spoiled: str = "") -> Path:
    """A copy of the wheel with one file less, one file more, or one file with other bytes."""
    copy = folder / wheel.name
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(copy, "w") as target:
        for name in source.namelist():
            if not (without and name.endswith(without)):
                target.writestr(name, source.read(name) + (b" " if spoiled and name.endswith(spoiled) else b""))
        if extra:
            target.writestr(extra, b"")
    return copy


def test_the_wheel_has_its_files_its_licence_and_its_metadata(wheel):
    audit.check_wheel(wheel)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"without": "py.typed"}, "missing"),
        ({"without": "goev/errors.md"}, "missing"),
        ({"without": "licenses/LICENSE"}, "missing"),
        ({"spoiled": "licenses/LICENSE"}, "licence"),
        ({"without": "goev.cyclonedx.json"}, "missing"),
        ({"extra": "tests/test_core.py"}, "outside"),
        ({"extra": "goev/__pycache__/tls.pyc"}, "nobody imports"),
        ({"extra": "goev/_core.cpython-39-x86_64-linux-gnu.so"}, "extension modules"),
        ({"spoiled": "goev/tls.py"}, "hash and size of goev/tls.py"),
        ({"spoiled": "_core.pyi"}, "hash and size of goev/_core.pyi"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(*value.items()),
)
def test_a_wheel_that_was_put_together_wrongly_is_found(wheel, tmp_path, change, said):
    with pytest.raises(audit.Fault, match=said):
        audit.check_wheel(changed(wheel, tmp_path, **change))


def test_a_wheel_of_this_machine_is_not_taken_for_a_manylinux_one(wheel, tmp_path):
    """Its name may say so: auditwheel looks at the symbols. Where the C library is old enough, the name is right."""
    renamed = tmp_path / f"goev-{audit.PROJECT['version']}-{NATIVE}.whl"
    shutil.copy(wheel, renamed)
    with pytest.raises(audit.Fault, match="tags"):
        audit.check_wheel(renamed, NATIVE)


def test_the_policy_is_that_of_the_symbols(wheel):
    needed = re.search(r"manylinux_2_(\d+)_", wheel.name)
    if needed is None or int(needed[1]) <= audit.GLIBC:
        pytest.skip("this machine's C library is so old that each wheel is a manylinux2014 one")
    with pytest.raises(audit.Fault, match="manylinux_2_"):
        audit._check_policy(wheel, NATIVE)


@pytest.mark.parametrize("upgrades", [{TAG: {"libs_to_eliminate": ["libc.so"]}}, {}], ids=["its own name", "Alpine's"])
def test_musl_may_be_the_only_library_of_a_wheel(upgrades):
    audit._check_musl(Path("a.whl"), {"sym_tag": TAG, "policy_upgrades": upgrades}, TAG)


@pytest.mark.parametrize(
    ("libraries", "symbols", "said"),
    [(["libc.so", "libz.so.1"], TAG, "libz"), (["libc.so"], "linux_x86_64", "policy of the symbols")],
)
def test_another_library_and_newer_symbols_are_found(libraries, symbols, said):
    found = {"sym_tag": symbols, "policy_upgrades": {TAG: {"libs_to_eliminate": libraries}}}
    with pytest.raises(audit.Fault, match=said):
        audit._check_musl(Path("a.whl"), found, TAG)


def test_the_sdist_has_the_sources_and_the_licence_and_no_more(sdist):
    audit.check_sdist(sdist)


@pytest.mark.parametrize(("name", "said"), [("tests/test_core.py", "belong"), ("src/lib.rs", "missing")])
def test_an_sdist_that_was_put_together_wrongly_is_found(sdist, tmp_path, name, said):
    """One file more, or that file less."""
    copy = tmp_path / sdist.name
    with tarfile.open(sdist) as source, tarfile.open(copy, "w:gz") as target:
        for member in source:
            if not member.name.endswith(f"/{name}"):
                target.addfile(member, source.extractfile(member))
        if said == "belong":
            target.addfile(tarfile.TarInfo(f"{sdist.name.removesuffix('.tar.gz')}/{name}"))
    with pytest.raises(audit.Fault, match=said):
        audit.check_sdist(copy)


def test_every_wheel_of_the_release_has_a_name_of_its_own():
    every = list(matrix.wheels(matrix.PYTHONS, matrix.LIBRARIES, matrix.PROCESSORS))
    assert len({str(wheel) for wheel in every}) == len({wheel.abi for wheel in every}) == len(every) == 20
    assert str(every[0]) == "cp311-cp311-manylinux2014_x86_64"
    assert str(every[-1]) == "cp314-cp314t-musllinux_1_2_aarch64"


def test_a_built_wheel_is_found_by_its_name(tmp_path):
    wheel = matrix.Wheel("3.14", "gnu", "x86_64")
    free = matrix.Wheel("3.14t", "gnu", "x86_64")
    for tags in ("cp314-cp314t-manylinux_2_17_x86_64.manylinux2014_x86_64", "cp314-cp314-musllinux_1_2_x86_64"):
        (tmp_path / f"goev-1.0-{tags}.whl").touch()
    assert wheel.file(tmp_path, "1.0") is None
    assert "cp314t" in free.file(tmp_path, "1.0").name
    assert free.file(tmp_path, "1.1") is None


def test_the_interpreter_of_the_tests_is_among_those_of_this_machine():
    found = hosts.found(())
    assert NATIVE.abi in found
    with pytest.raises(audit.Fault, match="/nonesuch is no CPython"):
        hosts.found(("/nonesuch",))


def test_the_extension_serves_as_a_wheel_of_a_release_is_tried(tmp_path):
    """The program by which `make wheels` tries each wheel, with the module that is installed."""
    words = hosts._run([sys.executable, str(hosts.SERVED), *hosts._certificate(tmp_path)])
    assert words.startswith("CPython 3.")


def test_the_arguments_of_make_wheels_are_checked():
    run = subprocess.run(
        [sys.executable, ROOT / "tools" / "wheels", "--python", "3.9"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 2
    assert "invalid choice: '3.9'" in run.stderr


def test_the_commands_of_the_guide_are_taken():
    """Each with ``--list``, which builds nothing. The names of the wheels and of the checks are the tool's."""
    text = GUIDE.read_text()
    given = re.findall(r'(?m)^make wheels(?: ARGS="(.*?)")?  +#', text)
    assert len(given) == 5
    for arguments in given:
        command = [sys.executable, ROOT / "tools" / "wheels", "--list", *arguments.split()]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        assert len(run.stdout.split()) == (1 if "--processor" in arguments else 20)
    assert all(f"`{name}`" in text for name in (*matrix.LIBRARIES.values(), *matrix.PROCESSORS))
    assert Guide(GUIDE.name, port=0).dead_links() == []


def test_the_workflows_have_no_fault_that_actionlint_finds():
    folders = os.pathsep.join([os.environ["PATH"], str(ROOT / "target" / "tools" / "bin")])
    program = shutil.which("actionlint", path=folders)
    if program is None:
        skip_outside_ci("actionlint is not installed (go install github.com/rhysd/actionlint/cmd/actionlint@latest)")
    run = subprocess.run([program, *WORKFLOWS.glob("*.yml")], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_workflows_have_no_weakness_that_zizmor_finds():
    command = [Path(sys.executable).with_name("zizmor"), "--offline", "--no-progress", ROOT / ".github"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_workflows_name_the_pythons_of_the_release():
    for workflow in WORKFLOWS.glob("*.yml"):
        named = set(re.findall(r"\b3\.1\d+t?\b", workflow.read_text()))
        assert named == set(matrix.PYTHONS), workflow.name


def test_actions_are_pinned_by_version_and_only_publishing_and_announcing_have_a_permission():
    for workflow in WORKFLOWS.glob("*.yml"):
        text = workflow.read_text()
        assert all(re.fullmatch(r"v\d+(\.\d+)*", pin) for pin in re.findall(r"uses: \S+@(\S+)", text))
        wanted = ["id-token", "contents"] if workflow.name == "release.yml" else []
        assert re.findall(r"(?m)^ +([\w-]+): write", text) == wanted


CHANGES = "# Changelog\n\n## Unreleased\n\n## 1.2.0 (2031-05-01)\n\n- new\n\n### Sizes\n\n- less\n\n## 1.1.0\n\n- old\n"


def test_the_notes_of_a_release_are_its_section_of_the_changelog():
    assert notes.notes(CHANGES, "1.2.0") == "- new\n\n### Sizes\n\n- less\n"
    assert notes.notes(CHANGES, "1.1.0") == "- old\n"


@pytest.mark.parametrize(
    ("changes", "version", "said"),
    [
        (CHANGES, "1.3.0", "no section 1.3.0"),
        (CHANGES.replace("- old\n", ""), "1.1.0", "empty"),
        (CHANGES.replace("## Unreleased\n", "## Unreleased\n\n- later\n"), "1.2.0", "Unreleased"),
    ],
)
def test_a_release_without_notes_is_refused(changes, version, said):
    with pytest.raises(notes.Missing, match=said):
        notes.notes(changes, version)


def test_the_tool_prints_the_notes_or_fails_with_a_line():
    run = [
        subprocess.run(
            [sys.executable, ROOT / "tools" / "notes.py", *given], capture_output=True, text=True, check=False
        )
        for given in ([], ["v0.0.0"])
    ]
    assert [(done.returncode, done.stdout, done.stderr.count("\n")) for done in run] == [(2, "", 1), (1, "", 1)]
