"""Targets: their forms, and errors that name the wrong part."""

import sys
from pathlib import Path

import pytest

from goev.service.loading import TargetError, explain, load

MODULES = {
    "shop.py": "class app: inner = 'inner'\ndef make(): return ['made']\ndef fails(): raise KeyError('no table')\n"
    "value = 3\n",
    "plain.py": "import goev\napplication = 'the application'\n",
    "nothing.py": "import goev\nclass Chat(goev.Connection): pass\n",
    "empty.py": "",
    "raises.py": "from helper import begin\nbegin()\n",
    "helper.py": "def begin(): raise RuntimeError('no database')\n",
    "lacks.py": "import a_library_that_is_missing\n",
    "syntax.py": "x = 1\ndef (:\n",
    "exits.py": "raise SystemExit(3)\n",
    "package/__init__.py": "",
    "package/site.py": "app = 'of the package'\n",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name, text in MODULES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield str(tmp_path)
    for name in set(sys.modules) - before:
        if Path(getattr(sys.modules[name], "__file__", None) or "/").is_relative_to(tmp_path):
            del sys.modules[name]


@pytest.mark.parametrize(
    ("target", "value"),
    [
        ("shop:value", 3),
        ("shop:app.inner", "inner"),
        ("shop:make()", ["made"]),
        ("plain", "the application"),
        ("package.site", "of the package"),
        ("package.site:app", "of the package"),
    ],
)
def test_a_target_is_found(folder, target, value):
    assert load(target, folder) == value


def test_the_folder_is_the_first_of_the_path_and_only_once(folder):
    load("shop:value", folder)
    load("shop:value", folder)
    assert sys.path[0] == folder
    assert sys.path.count(folder) == 1


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("shopp:app", "there is no module shopp in {folder}; did you mean shop?"),
        ("zzz:app", "there is no module zzz in {folder}"),
        ("package.sit:app", "there is no module package.sit in {folder}/package; did you mean package.site?"),
        ("shop.app:x", "there is no module shop.app, because shop is a module and not a package"),
        ("shop.py", "there is no module shop.py; did you mean shop?"),
        ("shop:vlue", "module shop ({folder}/shop.py) has no vlue; did you mean value?"),
        ("shop:app.iner", "shop:app has no iner; did you mean inner?"),
        ("shop:zzz", "module shop ({folder}/shop.py) has no zzz"),
        ("shop:value()", "shop:value is int, which cannot be called"),
        ("nothing", "module nothing ({folder}/nothing.py) has no app and no application; did you mean nothing:Chat?"),
        (
            "nothing:Chat()",
            "nothing:Chat() would be one handler, and each connection needs its own; did you mean nothing:Chat?",
        ),
        ("empty", "module empty ({folder}/empty.py) has no app and no application; name it: empty:…"),
        (
            "package/site:app",
            "'package/site:app' {malformed}; did you mean package.site:app?",
        ),
        (
            "./shop.py:app",
            "'./shop.py:app' {malformed}; did you mean shop:app?",
        ),
        (
            "shop:make(1)",
            "'shop:make(1)' {malformed}; a factory is called without arguments",
        ),
        ("shop:", "'shop:' {malformed}; did you mean shop?"),
        (":app", "':app' {malformed}"),
        ("", "'' {malformed}"),
        ("a b", "'a b' {malformed}"),
    ],
)
def test_a_wrong_target_is_one_line(folder, target, text):
    malformed = "is not a target, which is module:attribute or module:factory()"
    with pytest.raises(TargetError) as caught:
        load(target, folder)
    assert str(caught.value) == text.format(folder=folder, malformed=malformed) + " [GOEV801]"
    assert caught.value.__cause__ is None
    assert explain(caught.value) == str(caught.value)


# ---- names that Python, or goev, has imported already ----------------------------------------------------------------


@pytest.fixture
def imported(monkeypatch):
    """The modules that were imported before, which are there again after the test."""
    for name in list(sys.modules):
        if name.split(".")[0] in ("site", "email"):
            monkeypatch.setitem(sys.modules, name, sys.modules[name])
    return sys.modules


def test_a_file_of_the_folder_comes_before_a_module_that_is_imported(folder, imported):
    import site

    (Path(folder) / "site.py").write_text("import site as found\napp = 'mine'\n")
    assert load("site:app", folder) == "mine"
    assert load("site:found.app", folder) == "mine"
    assert site.__name__ == "site"
    assert callable(site.getsitepackages)


def test_a_package_of_the_folder_comes_with_its_own_modules(folder, imported):
    import email.message

    held = email.message
    (Path(folder) / "email").mkdir()
    (Path(folder) / "email" / "__init__.py").touch()
    (Path(folder) / "email" / "message.py").write_text("app = 'mine'\n")
    assert load("email.message:app", folder) == "mine"
    assert held.Message().items() == []


def test_a_name_without_a_file_in_the_folder_is_imported_as_before(folder, imported):
    import email

    assert load("email:message_from_string", folder) is email.message_from_string
    with pytest.raises(TargetError, match=r"module site \(.*site\.py\) has no app"):
        load("site:app", folder)


def test_a_module_of_the_folder_that_is_imported_is_not_imported_again(folder, tmp_path):
    first = load("shop:app", folder)
    link = tmp_path / "link"
    link.symlink_to(folder)
    sys.modules["shop"].__file__ = str(link / "shop.py")
    assert load("shop:app", folder) is first


def test_a_file_that_raises_leaves_the_module_of_its_name(folder, imported):
    import site

    (Path(folder) / "site.py").write_text("raise ValueError('no database')\n")
    with pytest.raises(TargetError, match="cannot import site: ValueError: no database") as caught:
        load("site:app", folder)
    assert [line for line in explain(caught.value).splitlines() if line.startswith("  File ")] == [
        f'  File "{folder}/site.py", line 1, in <module>'
    ]
    assert sys.modules["site"] is site


@pytest.mark.parametrize("name", ["sys", "goev"])
def test_no_file_takes_the_place_of_the_interpreter_and_of_goev(folder, name):
    (Path(folder) / f"{name}.py").write_text("app = 'mine'\n")
    held = sys.modules[name]
    with pytest.raises(TargetError, match=f"module {name} .*has no app"):
        load(f"{name}:app", folder)
    assert sys.modules[name] is held


def test_a_folder_that_is_not_there_is_said(folder):
    with pytest.raises(TargetError, match="app_dir: there is no folder /nowhere"):
        load("shop:app", "/nowhere")


@pytest.mark.parametrize(
    ("target", "last", "files"),
    [
        ("raises:app", "cannot import raises: RuntimeError: no database", ["raises.py", "helper.py"]),
        (
            "lacks:app",
            "cannot import lacks: ModuleNotFoundError: No module named 'a_library_that_is_missing'",
            ["lacks.py"],
        ),
        ("syntax:app", "cannot import syntax: SyntaxError: ", ["syntax.py"]),
        ("exits:app", "cannot import exits: it ended with SystemExit: 3", ["exits.py"]),
        ("shop:fails()", "shop:fails() failed: KeyError: 'no table'", ["shop.py"]),
    ],
)
def test_an_exception_of_the_users_code_is_shown_by_the_users_frames(folder, target, last, files):
    with pytest.raises(TargetError) as caught:
        load(target, folder)
    *traceback, line = explain(caught.value).splitlines()
    assert line.startswith(last)
    shown = [Path(text.split('"')[1]).name for text in traceback if text.startswith("  File ")]
    assert shown == files


def test_other_exceptions_are_explained_whole():
    with pytest.raises(ValueError, match="of a caller") as caught:
        raise ValueError("of a caller")
    text = explain(caught.value)
    assert text.startswith("Traceback")
    assert text.endswith("ValueError: of a caller")
