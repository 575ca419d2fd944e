//! What the URLs of all engines have in common. Nobody shows their passwords.

use crate::lock::system::printable;
use crate::lock::types::Error;
use std::ops::Range;

/// The error that says why this URL cannot be used, without its password.
pub(super) fn refusal(url: &str, reason: impl Into<String>) -> Error {
    Error::Url {
        url: printable(&without_password(url)),
        reason: reason.into(),
    }
}

/// Text in which `%XX` stands for a byte.
#[cfg(feature = "remote")]
pub(crate) fn decoded(text: &str) -> Result<String, &'static str> {
    const WRONG: &str = "two hexadecimal digits have to follow a '%' ('%25' is a '%')";
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = after.get(..2).and_then(|digits| str::from_utf8(digits).ok());
        let digits = digits.filter(|digits| digits.bytes().all(|d| d.is_ascii_hexdigit()));
        bytes.push(digits.and_then(|d| u8::from_str_radix(d, 16).ok()).ok_or(WRONG)?);
        rest = after.get(2..).unwrap_or_default();
    }
    String::from_utf8(bytes).map_err(|_| "with its '%XX' decoded, it is not valid UTF-8")
}

/// The URL without what could be a password, whatever it looks like.
fn without_password(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let separator = if scheme.is_empty() { "" } else { "://" };
    // Up to the last '@': a password may contain '@' or '/' where '%40' or '%2F' was meant.
    let rest = rest
        .rsplit_once('@')
        .map_or(rest.to_owned(), |(_, rest)| format!("…@{rest}"));
    // Options may contain one as well.
    let rest = rest.split_once('?').map_or(rest.as_str(), |(rest, _)| rest);
    format!("{scheme}{separator}{rest}")
}

/// Where the passwords stand in `text`, if it is or contains the URL of an engine. For a program that overwrites them in
/// its command line, where `ps` shows them.
pub fn passwords_in(text: &[u8]) -> Vec<Range<usize>> {
    let find = |what: &[u8], from: usize| {
        let rest = text.get(from..)?;
        Some(from + rest.windows(what.len()).position(|part| part == what)?)
    };
    let scheme_end = |scheme: &str| Some(find(scheme.as_bytes(), 0)? + scheme.len());
    // The first in the text: a part of a URL may look like another one.
    let Some(url) = super::schemes().filter_map(scheme_end).min() else {
        return Vec::new();
    };
    let of_user = || {
        let end = url + text[url..].iter().rposition(|b| *b == b'@')?;
        let start = url + text[url..end].iter().position(|b| *b == b':')? + 1;
        Some(start..end)
    };
    let mut found = Vec::from_iter(of_user());
    // An option of PostgreSQL's, up to the next one.
    let mut from = url;
    while let Some(at) = find(b"password=", from) {
        let start = at + b"password=".len();
        let length = text[start..].iter().position(|b| *b == b'&');
        from = length.map_or(text.len(), |length| start + length);
        found.push(start..from);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_found() {
        let hidden = |text: &str| -> Vec<String> {
            let places = passwords_in(text.as_bytes()).into_iter();
            places.map(|place| text[place].to_owned()).collect()
        };
        assert_eq!(hidden("etcd://u:p@ss@h/x"), ["p@ss"]);
        assert_eq!(hidden("--backend=postgres://u:pw@h/d"), ["pw"]);
        assert_eq!(hidden("postgres://h/d?user=u&password=pw&sslmode=allow"), ["pw"]);
        assert_eq!(hidden("postgres://h/d?password="), [""]);
        assert_eq!(hidden("postgres://u:pw@h/etcd://d"), ["pw"]);
        for plain in ["etcd://h:2379", "etcd://u@h", "etcd://", "a:b@c", "", "password=x"] {
            assert!(hidden(plain).is_empty(), "{plain}");
        }
    }

    #[test]
    fn urls_are_shown_without_what_may_be_a_password() {
        for (url, shown) in [
            ("redis://u:secret@h", "redis://…@h"),
            ("postgres://u:s@secret@h/d?password=secret", "postgres://…@h/d"),
            ("u:secret@h", "…@h"),
            ("etcd:\n", "etcd:\\n"),
        ] {
            let error = refusal(url, "because").to_string();
            assert_eq!(error, format!("the URL '{shown}' cannot be used: because"));
        }
    }
}
