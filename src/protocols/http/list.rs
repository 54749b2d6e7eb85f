//! The members of a field that holds a list (RFC 9110 section 5.6.1).

/// The members of a list, without the white space around them. A comma in a quoted string separates nothing (RFC 9110
/// section 5.6.4); a string that does not end reaches to the end of the value.
///
/// Members may be empty; the caller decides about them.
pub(super) fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let ends = move |byte: &u8| {
        let was_escaped = std::mem::take(&mut is_escaped);
        match byte {
            b'"' => is_quoted ^= !was_escaped,
            b'\\' => is_escaped = is_quoted && !was_escaped,
            _ => {}
        }
        *byte == b',' && !is_quoted
    };
    value.split(ends).map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_in_a_quoted_string_separates_nothing() {
        for (value, expected) in [
            ("", &[""][..]),
            ("a", &["a"]),
            (" a ,\tb", &["a", "b"]),
            ("a,,b,", &["a", "", "b", ""]),
            (r#"a="b,c", d"#, &[r#"a="b,c""#, "d"]),
            (r#"a="\",b", c"#, &[r#"a="\",b""#, "c"]),
            (r#"a="\\",b"#, &[r#"a="\\""#, "b"]),
            (r#"a=";,", ",b,""#, &[r#"a=";,""#, r#"",b,""#]),
            (r#"a="b, c"#, &[r#"a="b, c"#]),
            (r#"a="b\", c"#, &[r#"a="b\", c"#]),
            // Outside of a string a backslash is a byte like others.
            (r#"a\", b,"c"#, &[r#"a\", b,"c"#]),
        ] {
            let found: Vec<_> = members(value.as_bytes()).collect();
            let expected: Vec<_> = expected.iter().map(|member| member.as_bytes()).collect();
            assert_eq!(found, expected, "{value}");
        }
    }
}
