//! Patterns of locks' names, as a shell's for files: `*`, `?`, `[a-z]`, `[!a-z]`, and `\` before any of these.

/// True if a word means all names that fit, not one name. A word with a slash in front is always a name.
pub fn is_pattern(word: &str) -> bool {
    !word.starts_with('/') && word.contains(['*', '?', '['])
}

/// True if the name fits: a name fits itself, with or without a slash in front.
pub fn fits(word: &str, name: &str) -> bool {
    if !is_pattern(word) {
        return word.strip_prefix('/').unwrap_or(word) == name;
    }
    let (pattern, name): (Vec<char>, Vec<char>) = (word.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // The last `*`, and the first character that is not its own yet.
    let mut star = None;
    loop {
        if pattern.get(p) == Some(&'*') {
            p += 1;
            star = Some((p, n));
            continue;
        }
        match (one(&pattern[p..]), name.get(n)) {
            (Some((length, set)), Some(c)) if set.contains(*c) => (p, n) = (p + length, n + 1),
            (None, None) => return true,
            _ => match star {
                Some((behind, first)) if first < name.len() => {
                    (p, n) = (behind, first + 1);
                    star = Some((p, n));
                }
                _ => return false,
            },
        }
    }
}

/// What one character of a name may be.
enum Set<'a> {
    Any,
    One(char),
    /// Between brackets; true = none of these.
    Of(&'a [char], bool),
}

impl Set<'_> {
    fn contains(&self, c: char) -> bool {
        match self {
            Self::Any => true,
            Self::One(one) => *one == c,
            Self::Of(listed, not) => {
                let mut listed = *listed;
                let mut is_listed = false;
                while let [first, rest @ ..] = listed {
                    (is_listed, listed) = match rest {
                        ['-', last, rest @ ..] => (is_listed || (*first..=*last).contains(&c), rest),
                        rest => (is_listed || *first == c, rest),
                    };
                }
                is_listed != *not
            }
        }
    }
}

/// The set with which a pattern begins, and its length there.
fn one(pattern: &[char]) -> Option<(usize, Set<'_>)> {
    Some(match pattern {
        [] => return None,
        ['?', ..] => (1, Set::Any),
        ['\\', c, ..] => (2, Set::One(*c)),
        ['[', rest @ ..] => {
            let not = matches!(rest, ['!' | '^', ..]);
            let listed = &rest[usize::from(not)..];
            // A bracket in first place is one of the characters.
            match listed.iter().skip(1).position(|c| *c == ']') {
                Some(at) => (at + 3 + usize::from(not), Set::Of(&listed[..=at], not)),
                None => (1, Set::One('[')),
            }
        }
        [c, ..] => (1, Set::One(*c)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_a_shell_reads_them() {
        for (word, fitting, others) in [
            ("bus", &["bus"][..], &["busy", "bu", ""][..]),
            ("/bus", &["bus"], &["/bus"]),
            ("/b*", &["b*"], &["bus"]),
            ("b*", &["b", "bus", "b*"], &["abus", ""]),
            ("*", &["b", "", "größe"], &[]),
            ("*us*", &["bus", "usus", "us"], &["b"]),
            ("*ab*ab", &["abab", "xababab"], &["ab", "aab", "ababx"]),
            ("b?s", &["bus", "bäs"], &["bs", "buus"]),
            ("job[0-9]", &["job0", "job9"], &["joba", "job", "job10"]),
            ("job[!0-9]*", &["joba", "jobx1"], &["job0", "job"]),
            ("job[^x]", &["joba"], &["jobx"]),
            ("[]a]", &["]", "a"], &["b", "[]a]"]),
            ("[a-]*", &["a1", "-1"], &["b1"]),
            ("a[b*", &["a[b", "a[bc"], &["ab"]),
            (r"a\**", &["a*", "a*b"], &["ab", r"a\b"]),
            (r"a*\", &[r"ab\"], &["ab"]),
        ] {
            for name in fitting {
                assert!(fits(word, name), "{word} {name}");
            }
            for name in others {
                assert!(!fits(word, name), "{word} {name}");
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn any_word_is_read(word in "[*?\\[\\]!a\\\\/-]{0,12}", name in "[*\\[a!-]{0,12}") {
            fits(&word, &name);
            if !name.is_empty() {
                let literal = format!("/{name}");
                proptest::prop_assert!(fits(&literal, &name), "{}", literal);
            }
        }
    }
}
