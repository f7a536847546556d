//! os-release(5): `NAME=value` with the quoting of a shell.

/// The value of a variable; the last assignment counts. An assignment that no shell would take is passed over.
pub fn value(text: &str, name: &str) -> Option<String> {
    let mut values = text.lines().rev().filter_map(|line| {
        let (key, value) = line.trim_start().split_once('=')?;
        if key == name { unquote(value.trim_end()) } else { None }
    });
    values.next().filter(|value| !value.is_empty())
}

fn unquote(word: &str) -> Option<String> {
    let mut value = String::with_capacity(word.len());
    let mut characters = word.chars();
    let mut quote = None;
    while let Some(c) = characters.next() {
        match (quote, c) {
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            (None, '\\') => value.push(characters.next()?),
            (Some('"'), '\\') => match characters.next()? {
                escaped @ ('"' | '\\' | '$' | '`') => value.push(escaped),
                other => value.extend(['\\', other]),
            },
            (None, ' ' | '\t' | ';' | '&' | '|' | '<' | '>' | '(' | ')' | '$' | '`') => return None,
            (_, c) => value.push(c),
        }
    }
    quote.is_none().then_some(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_are_read_as_a_shell_reads_them() {
        let cases = [
            ("plain", "A=b", Some("b")),
            ("double quotes", "A=\"NixOS 26.05 (Yarara)\"", Some("NixOS 26.05 (Yarara)")),
            ("single quotes keep all", r"A='a\b $c'", Some(r"a\b $c")),
            ("escapes in double quotes", r#"A="a \"b\" \$c \\ \n""#, Some(r#"a "b" $c \ \n"#)),
            ("escape outside", r"A=a\ b", Some("a b")),
            ("parts are joined", r#"A="a b"'c d'e"#, Some("a bc de")),
            ("the last one counts", "A=1\nA=2", Some("2")),
            ("white space at the ends", "  A=1  ", Some("1")),
            ("empty is not told", "A=\"\"", None),
            ("another name", "AB=1\nBA=2", None),
            ("a comment", "#A=1", None),
            ("an open quote", "A=\"b", None),
            ("an escape of nothing", "A=b\\", None),
            ("a command", "A=$(reboot)", None),
            ("two words", "A=b c", None),
        ];
        for (name, text, expected) in cases {
            assert_eq!(value(text, "A").as_deref(), expected, "{name}");
        }
    }

    proptest! {
        #[test]
        fn what_is_quoted_comes_back(text in "[ -~äöü]{1,40}") {
            let quoted: String = text.chars().flat_map(|c| {
                let escape = matches!(c, '"' | '\\' | '$' | '`').then_some('\\');
                escape.into_iter().chain([c])
            }).collect();
            let read = value(&format!("ID=x\nA=\"{quoted}\"\n"), "A");
            prop_assert_eq!(read, Some(text));
        }

        #[test]
        fn any_text_is_read(text in "[A=\"'\\\\$`a-c \n]{0,60}") {
            let _ = value(&text, "A");
        }
    }
}
