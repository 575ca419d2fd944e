//! Words as a shell reads them: what is printed as advice can be pasted.

use super::typed_name;
use resourcelock::system::disturbs;
use std::ffi::OsStr;
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;

/// A lock's name as a word for the shell: with a slash where it would be taken for an option or a command.
pub fn shell_word(name: &str) -> String {
    quoted(typed_name(name, OsStr::new("")))
}

/// Any word for the shell. sh, bash, zsh and fish all read it as this word and nothing else, also where somebody pastes it
/// at a prompt. Whatever a reader would not see ([`disturbs`]) is written as numbers. (Line breaks at the end are lost.)
pub fn quoted(word: impl AsRef<OsStr>) -> String {
    let bytes = word.as_ref().as_bytes();
    match str::from_utf8(bytes) {
        Ok(text) if is_plain(text) => return text.to_owned(),
        Ok("") => return "''".to_owned(),
        _ => {}
    }
    let mut quoted = Quoted::default();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                // Behind a line break, since the shell drops those at the end of what printf writes.
                c if disturbs(c) || quoted.ends_in_line_break() => {
                    quoted.push_bytes(c.encode_utf8(&mut [0; 4]).as_bytes())
                }
                // fish reads a backslash between single quotes otherwise than the others do.
                '\'' | '\\' => quoted.push(Part::Bare, &['\\', c].iter().collect::<String>()),
                c => quoted.push(Part::Single, c.encode_utf8(&mut [0; 4])),
            }
        }
        quoted.push_bytes(chunk.invalid());
    }
    quoted.finished()
}

/// True for what no shell takes for anything else.
fn is_plain(word: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-+,:@%/=".contains(c);
    // zsh replaces =NAME by a program's path; % may be a job.
    !word.is_empty() && word.chars().all(plain) && !word.starts_with(['=', '%'])
}

/// How a part of a word is quoted.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Part {
    /// Not, or each character by itself.
    #[default]
    Bare,
    /// Between single quotes.
    Single,
    /// As octal numbers for printf(1).
    Numbers,
}

impl Part {
    fn marks(self) -> (&'static str, &'static str) {
        match self {
            Self::Bare => ("", ""),
            Self::Single => ("'", "'"),
            Self::Numbers => ("\"$(printf '", "')\""),
        }
    }
}

/// A quoted word that grows.
#[derive(Default)]
struct Quoted {
    text: String,
    open: Part,
}

impl Quoted {
    fn push(&mut self, part: Part, text: &str) {
        if self.open != part {
            self.text.push_str(self.open.marks().1);
            self.text.push_str(part.marks().0);
            self.open = part;
        }
        self.text.push_str(text);
    }

    fn push_bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let mut number = String::new();
            let _ = write!(number, "\\{byte:03o}");
            self.push(Part::Numbers, &number);
        }
    }

    fn ends_in_line_break(&self) -> bool {
        self.open == Part::Numbers && self.text.ends_with(r"\012")
    }

    fn finished(mut self) -> String {
        self.push(Part::Bare, "");
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;
    use std::process::Command;

    #[test]
    fn words_for_the_shell() {
        for (word, shown) in [
            ("i2c", "i2c"),
            ("a b", "'a b'"),
            ("it's", r"'it'\''s'"),
            ("", "''"),
            ("=ls", "'=ls'"),
            (r"a\b", r"'a'\\'b'"),
            ("a\u{202e}b", r#"'a'"$(printf '\342\200\256')"'b'"#),
        ] {
            assert_eq!(quoted(word), shown);
        }
        assert_eq!(shell_word("-q"), "/-q");
        assert_eq!(shell_word("list"), "/list");
    }

    /// What a shell makes of it.
    fn read_by(shell: &str, word: &str) -> OsString {
        let mut command = Command::new(shell);
        let output = command.args(["-c", &format!("printf '%s' {word}")]).output().unwrap();
        OsString::from_vec(output.stdout)
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, cases: 64, ..Default::default() })]

        #[test]
        fn a_shell_reads_the_very_word(bytes in "([ -~]|[\u{1}-\u{1f}\u{7f}-\u{ff}\u{2000}-\u{2070}]|\\PC){0,12}") {
            let word = OsString::from(bytes.trim_end_matches('\n'));
            let shown = quoted(&word);
            proptest::prop_assert!(!shown.chars().any(disturbs), "{}", shown);
            proptest::prop_assert_eq!(read_by("sh", &shown), word);
        }

        #[test]
        fn also_one_that_is_not_utf_8(bytes in proptest::collection::vec(1..=255_u8, 0..6)) {
            let mut bytes = bytes;
            bytes.push(b'.');
            let word = OsString::from_vec(bytes);
            proptest::prop_assert_eq!(read_by("sh", &quoted(&word)), word);
        }
    }
}
