"""The reader of Rust sources that the rules of the architecture stand on."""

from textwrap import dedent

import pytest

from rust_source import Crate, Source, circles, code_of, leaves


def live(text: str) -> str:
    """The code outside of tests, without empty lines."""
    lines = (line.rstrip() for line in Source("src/a.rs", dedent(text)).live.splitlines())
    return "\n".join(line for line in lines if line)


def named(text: str, name: str = "src/a/b.rs", **others: str) -> list[str]:
    """The paths that a file names in a small crate, each with the file that it leads to."""
    files = ["src/lib.rs", "src/a/mod.rs", "src/a/b.rs", "src/a/c.rs", "src/a/b/d.rs", "src/e.rs"]
    crate = Crate.of_texts(dict.fromkeys(files, "") | {name: dedent(text)} | others)
    found = crate.references(crate.sources[name])
    return [f"{reference.line} {'::'.join(reference.path)} {reference.file}" for reference in found]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("a // b\nc", "a     \nc"),
        ("a /* b /* c */ d */ e", "a                   e"),
        ("a /* b\n*/ c", "a     \n   c"),
        ("a /* never closed", "a                "),
        ('"// \\" no comment" b', '"                " b'),
        ('"two\nlines" b', '"   \n     " b'),
        ('b"x" c"y"', 'b" " c" "'),
        ('r"\\" b', 'r" " b'),
        ('r#"a "quoted" b"# c', 'r#"            "# c'),
        ('br##"a"#b"## c', 'br##"    "## c'),
        ("'\"' '\\'' '\\u{1F600}' b'\\x41' d", "' ' '  ' '         ' b'    ' d"),
        ("fn f<'a, 'b>(x: &'a str) -> &'b str { 'c' }", "fn f<'a, 'b>(x: &'a str) -> &'b str { ' ' }"),
        ("'outer: loop { break 'outer; } '{'", "'outer: loop { break 'outer; } ' '"),
    ],
)
def test_code_is_told_from_comments_strings_and_characters(text, code):
    assert code_of(text) == code


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("#[cfg(test)]\nmod tests { fn f() { g(); } }\nuse a;", "use a;"),
        ("#[cfg(test)]\n#[allow(x)]\npub(crate) mod fake;\nuse a;", "use a;"),
        ("#[cfg(all(test, not(loom)))]\nmod tests {}\nuse a;", "use a;"),
        ("#[cfg(all(loom, test))]\nmod models {}\nuse a;", "use a;"),
        ("#[cfg(test)]\nuse b::{c, d};\nuse a;", "use a;"),
        ("#[cfg(test)]\nconst X: [u8; 2] = [1; 2];\nuse a;", "use a;"),
        ("#[cfg(test)]\nconst X: A = A { b: 1 };\nuse a;", "use a;"),
        ("#[cfg(test)]\nconst fn f() -> u8 { 1 }\nuse a;", "use a;"),
        ("#[cfg(test)]\nfn f(x: [u8; 2]) where A: B { x; }\nuse a;", "use a;"),
        ("#[cfg(test)]\nimpl A for B {}\nuse a;", "use a;"),
        ("#[cfg(test)]\nstruct A(u8);\nuse a;", "use a;"),
        ("struct A {\n    #[cfg(test)]\n    b: [u8; 2],\n    c: u8,\n}", "struct A {\n    c: u8,\n}"),
        ("match a {\n    #[cfg(test)]\n    B { .. } => c(),\n    D => e,\n}", "match a {\n    D => e,\n}"),
        ("fn f(\n    #[cfg(test)] a: u8\n) {}", "fn f(\n) {}"),
        ("#[cfg(test)]\n{ a(); }\nb();", "b();"),
        ("#[cfg(test)]\na();\nb();", "b();"),
        ("#[cfg(not(test))]\nuse a;", "#[cfg(not(test))]\nuse a;"),
        ("#[cfg(any(test, b))]\nuse a;", "#[cfg(any(test, b))]\nuse a;"),
        ("#[cfg(loom)]\nuse a;", "#[cfg(loom)]\nuse a;"),
        ('let a = "#[cfg(test)]";\nuse b;', 'let a = "            ";\nuse b;'),
        ("#![cfg(test)]\nuse a;", ""),
    ],
)
def test_items_for_tests_are_left_out_and_nothing_behind_them(text, left):
    assert live(text) == left


def test_lines_of_tests_do_not_count():
    text = "//! A.\n\nuse a;\n\n#[cfg(test)]\nmod tests {\n    use b;\n}\nuse c;\n"
    assert Source("src/a.rs", text).length == 5


@pytest.mark.parametrize(
    ("tree", "paths"),
    [
        ("a::b", ["a::b as b"]),
        ("a::b as c", ["a::b as c"]),
        ("a::b as _", ["a::b as None"]),
        ("a::*", ["a::* as None"]),
        ("a::{b, c::{self, d as e, *}, f}", ["a::b as b", "a::c as c", "a::c::d as e", "a::c::* as None", "a::f as f"]),
        ("a::{\n    b,\n    c::{d},\n}", ["a::b as b", "a::c::d as d"]),
        ("{a::b, c}", ["a::b as b", "c as c"]),
        ("a::{}", []),
        ("::a::b", ["::a::b as b"]),
        ("::{a, b::c}", ["::a as a", "::b::c as c"]),
    ],
)
def test_a_use_tree_has_a_path_for_each_leaf(tree, paths):
    assert [f"{'::'.join(path)} as {alias}" for path, alias in leaves(tree)] == paths


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("use crate::e::X;", ["1 e::X src/e.rs"]),
        ("use crate::e;", ["1 e src/e.rs"]),
        ("pub(crate) use crate::e::X;", ["1 e::X src/e.rs"]),
        ("use crate::{e::{X, Y}, a::c};", ["1 a::c src/a/c.rs", "1 e::X src/e.rs", "1 e::Y src/e.rs"]),
        ("use super::c::X;", ["1 a::c::X src/a/c.rs"]),
        ("use super::X;", ["1 a::X src/a/mod.rs"]),
        ("use super::*;", ["1 a::* src/a/mod.rs"]),
        ("use super::super::e::X;", ["1 e::X src/e.rs"]),
        ("use self::d::X;", ["1 a::b::d::X src/a/b/d.rs"]),
        ("mod d;\npub use d::X;", ["2 a::b::d::X src/a/b/d.rs"]),
        ("use crate::a::b::X;", []),
        ("use crate::Root;", ["1 Root src/lib.rs"]),
        ("use std::e::X;", []),
        ("use ::d::X;", []),
        ("use ::{d::X};", []),
        ("use crate::a;\nuse a::c::X;", ["1 a src/a/mod.rs", "2 a::c::X src/a/c.rs"]),
        ("use crate::a::c as other;\nfn f() { other::g(); }", ["1 a::c src/a/c.rs", "2 a::c::g src/a/c.rs"]),
        ("fn f() {\n    use crate::e::X;\n}", ["2 e::X src/e.rs"]),
        ("fn f() -> impl Sized + use<'a> {}\nfn g() { super::c::h(); }", ["2 a::c::h src/a/c.rs"]),
    ],
)
def test_imports_lead_to_files(text, paths):
    assert sorted(named(text)) == paths


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("fn f() { crate::e::g() }", ["1 e::g src/e.rs"]),
        ("fn f(x: &crate::e::X<super::c::Y>) {}", ["1 e::X src/e.rs", "1 a::c::Y src/a/c.rs"]),
        ("fn f() { <crate::e::X as super::Z>::g::<u8>() }", ["1 e::X src/e.rs", "1 a::Z src/a/mod.rs"]),
        ("fn f() { crate::e::X::<u8>::g() }", ["1 e::X src/e.rs"]),
        ("fn f() { d::g() }", ["1 a::b::d::g src/a/b/d.rs"]),
        ("fn f() { self::d::g(); x.d::<u8>(); y::d::g() }", ["1 a::b::d::g src/a/b/d.rs"]),
        ("macro_rules! m { () => { $crate::e::g() } }", ["1 e::g src/e.rs"]),
        ("fn f() { ::d::g() }", []),
        ("fn f() { <u8 as T>::d::g(); T::<u8>::d::g() }", []),
        ("pub(in crate::a) fn f() {}", []),
        ("pub(super) fn f() { Self::g(); std::e::f() }", []),
        ("/// [`crate::e::X`]\nfn f() {} // crate::e::X", []),
        ('fn f() { "crate::e::X"; }', []),
        ("#[cfg(test)]\nmod tests {\n    use crate::e::X;\n}\nfn f() { crate::a::c::g() }", ["5 a::c::g src/a/c.rs"]),
    ],
)
def test_paths_in_code_lead_to_files(text, paths):
    assert named(text) == paths


def test_a_module_in_braces_has_its_parent_in_the_same_file():
    text = """
    mod inner {
        use super::X;
        use super::super::Y;
        mod deep { use super::super::super::c::Z; }
    }
    use inner::W;
    use super::V;
    """
    assert named(text) == ["4 a::Y src/a/mod.rs", "5 a::c::Z src/a/c.rs", "8 a::V src/a/mod.rs"]


def test_a_file_for_tests_only_is_no_source():
    crate = Crate.of_texts(
        {
            "src/lib.rs": "mod a;\n#[cfg(test)]\nmod fake;",
            "src/a.rs": "#[cfg(test)]\nmod tests { use crate::fake::F; }",
            "src/fake.rs": "use crate::a::A;",
            "src/fake/deep.rs": "use crate::a::A;",
        }
    )
    assert set(crate.sources) == {"src/lib.rs", "src/a.rs"}
    assert crate.edges == {}


def test_a_declaration_of_a_module_is_no_import_and_a_public_use_is_one():
    crate = Crate.of_texts(
        {
            "src/a/mod.rs": "mod b;\nmod c;\npub use b::B;",
            "src/a/b.rs": "use super::C;",
            "src/a/c.rs": "",
        }
    )
    assert crate.edges == {("src/a/mod.rs", "src/a/b.rs"): 3, ("src/a/b.rs", "src/a/mod.rs"): 1}


@pytest.mark.parametrize(
    ("edges", "one", "found"),
    [
        (["ab", "bc", "ac"], "", []),
        (["ab", "ba"], "", ["ab"]),
        (["ab", "bc", "ca", "cd", "de", "ed"], "", ["abc", "de"]),
        (["ab", "ba"], "ab", []),
        (["ab", "ba", "bc", "ca"], "ab", ["abc"]),
        (["ab", "bc", "cd", "db"], "ab", ["abcd"]),
    ],
)
def test_circles_are_found_and_those_of_one_group_are_none(edges, one, found):
    assert [sorted(circle) for circle in circles([tuple(edge) for edge in edges], one)] == [[*each] for each in found]
