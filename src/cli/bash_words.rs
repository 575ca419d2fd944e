//! Words as bash's completion passes and expects them: still quoted, and only the part after the last separator (`=`,
//! `:`, `@`, a quote) is replaced.

/// The quotes that are open at the end of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quote {
    None,
    Single,
    Double,
}

/// The text that quoted words mean, and the quotes that are open at its end.
fn read(quoted: &str, mut quote: Quote) -> (String, Quote) {
    let mut text = String::new();
    let mut letters = quoted.chars();
    while let Some(letter) = letters.next() {
        quote = match (letter, quote) {
            ('\'', Quote::None) => Quote::Single,
            ('\'', Quote::Single) | ('"', Quote::Double) => Quote::None,
            ('"', Quote::None) => Quote::Double,
            ('\\', Quote::None | Quote::Double) => {
                match letters.next() {
                    Some(escaped) if quote == Quote::None || "\"\\$`".contains(escaped) => text.push(escaped),
                    Some(other) => text.extend(['\\', other]),
                    None => {}
                }
                quote
            }
            _ => {
                text.push(letter);
                quote
            }
        };
    }
    (text, quote)
}

/// What a quoted word means.
pub fn meaning(quoted: &str) -> String {
    read(quoted, Quote::None).0
}

/// Returns what to replace the end of a word with, so that the whole word means `wanted`; `kept` is its quoted beginning,
/// which stays. Open quotes stay open, since bash closes them. `None` if `wanted` does not begin like that.
pub fn replacement(kept: &str, wanted: &str) -> Option<String> {
    let (beginning, quote) = read(kept, Quote::None);
    let backslashes = kept.bytes().rev().take_while(|byte| *byte == b'\\').count();
    if quote != Quote::Single && backslashes % 2 == 1 {
        return None; // it ends in the middle of an escape
    }
    let rest = wanted.strip_prefix(beginning.as_str())?;
    let mut quoted = String::new();
    for (at, letter) in rest.char_indices() {
        match quote {
            Quote::Single if letter == '\'' => quoted.push_str(r"'\''"),
            // Inside double quotes, nothing protects ! from history expansion.
            Quote::Double if letter == '!' => quoted.push_str("\"'!'\""),
            Quote::Double if "\"\\$`".contains(letter) => quoted.extend(['\\', letter]),
            Quote::None if !is_plain(letter) || (letter == '~' && at == 0) => quoted.extend(['\\', letter]),
            _ => quoted.push(letter),
        }
    }
    Some(quoted)
}

/// True if a letter means itself outside quotes.
fn is_plain(letter: char) -> bool {
    letter.is_alphanumeric() || "._-+,:=@%/~^".contains(letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_words_are_read() {
        for (quoted, text) in [
            ("bus", "bus"),
            (r"a\ b", "a b"),
            ("'a b", "a b"),
            ("\"a b", "a b"),
            (r#""a\"b\n"c'd e'"#, r#"a"b\ncd e"#),
            (r"'it'\''s'", "it's"),
            ("a\\", "a"),
        ] {
            assert_eq!(meaning(quoted), text, "{quoted}");
        }
    }

    #[test]
    fn what_replaces_a_words_end() {
        for (kept, wanted, replaces) in [
            ("", "bus", "bus"),
            ("", "a b;c", r"a\ b\;c"),
            ("", "~x", r"\~x"),
            ("\"", "a $b!", "a \\$b\"'!'\""),
            ("'", "it's", r"it'\''s"),
            ("a@", "a@b c", r"b\ c"),
            ("--until=", "--until=tree", "tree"),
            ("", "größe", "größe"),
        ] {
            assert_eq!(replacement(kept, wanted).as_deref(), Some(replaces), "{kept} {wanted}");
        }
        for kept in ["b@", "a\\", "\"a\\"] {
            assert_eq!(replacement(kept, "a b"), None, "{kept}");
        }
    }

    #[test]
    fn a_replaced_word_means_what_was_wanted() {
        for wanted in [
            "bus",
            "a b",
            "it's",
            "a\"b",
            "$x `y` \\z",
            "~home",
            "-x",
            "a#b*?[c]{d,e}",
            "x!y",
        ] {
            for kept in ["", "'", "\""] {
                let close = kept;
                let word = format!("{kept}{}{close}", replacement(kept, wanted).unwrap());
                assert_eq!(meaning(&word), wanted, "{word}");
            }
        }
    }
}
