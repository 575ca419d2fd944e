//! What a URL means. Passwords are taken out here and shown by nobody.

use crate::{Error, Result};
use std::fmt;
use std::net::Ipv6Addr;
use std::ops::Range;

/// etcd's port for clients.
const ETCD_PORT: u16 = 2379;

/// An engine, named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EngineUrl {
    /// This machine: `local:`.
    Local,
    /// `etcd://…` or `etcds://…`.
    Etcd(EtcdUrl),
    /// `postgres://…` or `postgresql://…`.
    Postgres(PostgresUrl),
}

/// `etcd://[user:pass@]host[:2379][,host…][/prefix]`.
#[derive(Clone, PartialEq, Eq)]
pub struct EtcdUrl {
    pub(crate) tls: bool,
    /// `host:port` each; IPv6 addresses in brackets.
    pub(crate) servers: Vec<String>,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
    /// What keys begin with, without the slash that follows it; may be empty.
    pub(crate) prefix: String,
}

/// `postgres://…`, as libpq understands it.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl {
    /// With the password, if it has one.
    pub(crate) secret: String,
}

impl EngineUrl {
    /// Reads a URL.
    ///
    /// # Errors
    /// [`Error::Url`], which says what is wanted and shows no password.
    pub fn parse(url: &str) -> Result<Self> {
        let refuse = |reason: &str| {
            Err(Error::Url {
                url: printable(&without_password(url)),
                reason: reason.to_owned(),
            })
        };
        if url == "local:" {
            return Ok(Self::Local);
        }
        if url.is_empty() {
            // A variable that was meant to be set would mean a lock of each machine for itself.
            return refuse("it is empty: name an engine, or local: for this machine");
        }
        let (scheme, rest) = url.split_once("://").unwrap_or((url, ""));
        match scheme {
            "etcd" | "etcds" => match etcd(rest, scheme == "etcds") {
                Ok(url) => Ok(Self::Etcd(url)),
                Err(reason) => refuse(reason),
            },
            "postgres" | "postgresql" if url.contains("://") => {
                Ok(Self::Postgres(PostgresUrl { secret: url.to_owned() }))
            }
            _ => refuse(
                "local:, etcd://HOST[:PORT][,HOST…][/PREFIX], etcds://… or postgres://USER@HOST/DATABASE is wanted",
            ),
        }
    }
}

/// The part behind `etcd://`.
fn etcd(rest: &str, tls: bool) -> Result<EtcdUrl, &'static str> {
    let (authority, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    // One more '@', or one behind a '/' or '?', is that of a password: no piece of it is to be taken for something else.
    if rest.matches('@').count() > 1 || rest.split(['/', '?']).skip(1).any(|part| part.contains('@')) {
        return Err("'/', '?' and '@' in a user's name, a password or a prefix are written '%2F', '%3F', '%40'");
    }
    if authority.contains('?') || prefix.contains('?') {
        return Err("options ('?') are not known for etcd");
    }
    let (user, hosts) = match authority.split_once('@') {
        Some((user, hosts)) => (Some(user), hosts),
        None => (None, authority),
    };
    let (user, password) = match user.map(|user| user.split_once(':').unwrap_or((user, ""))) {
        None => (None, None),
        Some(("", _)) => return Err("the user's name is missing before the '@'"),
        Some((user, "")) => (Some(decoded(user)?), None),
        Some((user, password)) => (Some(decoded(user)?), Some(decoded(password)?)),
    };
    Ok(EtcdUrl {
        tls,
        servers: hosts.split(',').map(server).collect::<Result<_, _>>()?,
        user,
        password,
        prefix: decoded(prefix.trim_end_matches('/'))?,
    })
}

const PORT: &str = "a port is a number from 1 to 65535 (an IPv6 address is written in brackets)";

/// `host:port` from `host[:port]`.
fn server(text: &str) -> Result<String, &'static str> {
    let (host, port) = match text.rsplit_once(':').filter(|(_, port)| !port.contains(']')) {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let is_one = match host.strip_prefix('[').map(|rest| rest.strip_suffix(']')) {
        Some(address) => address.is_some_and(|address| address.parse::<Ipv6Addr>().is_ok()),
        None => !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c)),
    };
    if host.contains(':') && !host.contains('[') {
        return Err(PORT);
    }
    if !is_one {
        return Err("a host is missing or is none: etcd://HOST[:PORT][,HOST…][/PREFIX]");
    }
    match port.map_or(Ok(ETCD_PORT), str::parse) {
        Ok(port) if port != 0 => Ok(format!("{host}:{port}")),
        _ => Err(PORT),
    }
}

/// Text in which `%XX` stands for a byte.
pub(crate) fn decoded(text: &str) -> Result<String, &'static str> {
    const WRONG: &str = "'%' has to be followed by two hexadecimal digits ('%25' is a '%')";
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
    String::from_utf8(bytes).map_err(|_| "what '%' stands for is not valid UTF-8")
}

/// Text from elsewhere, for messages: control characters are escaped, and nothing else.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            shown.extend(c.escape_debug());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// The URL without what could be a password, whatever it looks like.
pub(crate) fn without_password(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let separator = if scheme.is_empty() { "" } else { "://" };
    // To the last '@': somebody may have forgotten to write '%40' or '%2F'.
    let rest = rest
        .rsplit_once('@')
        .map_or(rest.to_owned(), |(_, rest)| format!("…@{rest}"));
    // Options may hold one as well.
    let rest = rest.split_once('?').map_or(rest.as_str(), |(rest, _)| rest);
    format!("{scheme}{separator}{rest}")
}

/// What the URL of a remote engine begins with.
const SCHEMES: [&str; 4] = ["etcd://", "etcds://", "postgres://", "postgresql://"];

/// Where the passwords stand in `text`, if it is or contains the URL of an engine. For a program that overwrites them in
/// its command line, where `ps` shows them.
pub fn passwords_in(text: &[u8]) -> Vec<Range<usize>> {
    let find = |what: &[u8], from: usize| {
        let rest = text.get(from..)?;
        Some(from + rest.windows(what.len()).position(|part| part == what)?)
    };
    let scheme_end = |scheme: &&str| Some(find(scheme.as_bytes(), 0)? + scheme.len());
    let Some(url) = SCHEMES.iter().find_map(scheme_end) else {
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

impl fmt::Debug for EtcdUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EtcdUrl({}/{})", self.servers.join(","), self.prefix)
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresUrl({})", without_password(&self.secret))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn etcd(url: &str) -> EtcdUrl {
        match EngineUrl::parse(url) {
            Ok(EngineUrl::Etcd(url)) => url,
            other => panic!("{url}: {other:?}"),
        }
    }

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
        for plain in ["etcd://h:2379", "etcd://u@h", "etcd://", "a:b@c", "", "password=x"] {
            assert!(hidden(plain).is_empty(), "{plain}");
        }
    }

    #[test]
    fn what_names_this_machine() {
        assert_eq!(EngineUrl::parse("local:").unwrap(), EngineUrl::Local);
        assert!(
            EngineUrl::parse("").is_err(),
            "whoever has forgotten a URL means no lock of one machine"
        );
    }

    #[test]
    fn parts_of_an_etcd_url() {
        let plain = etcd("etcd://one");
        assert_eq!(
            (plain.servers, plain.prefix, plain.tls),
            (vec!["one:2379".to_owned()], String::new(), false)
        );
        let full = etcd("etcds://ann:p%40ss:w@one:1,[::1]:2,10.0.0.3/locks/nightly/");
        assert_eq!(full.servers, ["one:1", "[::1]:2", "10.0.0.3:2379"]);
        assert_eq!(
            (full.user.as_deref(), full.password.as_deref()),
            (Some("ann"), Some("p@ss:w"))
        );
        assert_eq!((full.prefix.as_str(), full.tls), ("locks/nightly", true));
        assert_eq!(etcd("etcd://h//locks").prefix, "/locks", "a leading slash is possible");
        assert_eq!(etcd("etcd://ann@h").password, None);
    }

    #[test]
    fn refusals_say_what_is_wanted_and_show_no_password() {
        for url in [
            "etcd://",
            "etcd://h:0",
            "etcd://h:x",
            "etcd://::1",
            "etcd://[::1]12471",
            "etcd://[::1]x:12471",
            "etcd://[1",
            "etcd://[]",
            "etcd://[::1]]:1",
            "etcd://a[b]",
            "etcd://a[::1]:1",
            "etcd://::1]",
            "etcd://\u{fc}:1",
            "etcd://h:",
            "etcd://u:secret@",
            "etcd://u:secret@h:99999",
            "etcd://:secret@h",
            "etcd://u:sec/ret@h:x",
            "etcd://u:p@secret/w@h/p",
            "etcd://u:secret/x@h/p",
            "etcd://u:secret?x@h/p",
            "etcd://u@secret@h",
            "etcd://u:%zz@h",
            "etcd://h/p?x",
            "redis://u:secret@h",
            "postgres",
            "u:secret@h",
            "etcd:h",
        ] {
            let error = EngineUrl::parse(url).unwrap_err().to_string();
            assert!(error.contains(" cannot be used: "), "{error}");
            assert!(!error.contains("secret") && !error.contains("sec/"), "{error}");
        }
    }

    #[test]
    fn debugging_output_shows_no_password() {
        let urls = [
            "etcd://u:secret@h/p",
            "postgres://u:secret@h/d?password=secret",
            "postgres://u:s@secret@h/d",
        ];
        for url in urls {
            let shown = format!("{:?}", EngineUrl::parse(url).unwrap());
            assert!(!shown.contains("secret"), "{shown}");
        }
    }
}
