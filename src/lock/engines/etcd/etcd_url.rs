//! The URL of an etcd.

use crate::lock::engines::url::{decoded, refusal};
use crate::lock::types::Result;
use std::fmt;
use std::net::Ipv6Addr;

/// etcd's port for clients.
const PORT: u16 = 2379;

/// `etcd://[user:pass@]host[:2379][,host…][/prefix]`, or `etcds://…`.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct EtcdUrl {
    pub(super) tls: bool,
    /// `host:port` each; IPv6 addresses in brackets.
    pub(super) servers: Vec<String>,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    /// What keys begin with, without the slash that follows; may be empty.
    pub(super) prefix: String,
}

impl EtcdUrl {
    /// Reads a URL.
    ///
    /// # Errors
    /// [`Error::Url`](crate::Error::Url).
    pub(super) fn parse(url: &str) -> Result<Self> {
        let (scheme, rest) = url.split_once("://").unwrap_or((url, ""));
        parse(rest, scheme == "etcds").map_err(|reason| refusal(url, reason))
    }
}

/// The part behind `etcd://`.
fn parse(rest: &str, tls: bool) -> Result<EtcdUrl, &'static str> {
    let (authority, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    // Another '@', or one behind a '/' or '?', belongs to a password: no piece of it may be taken for something else.
    if rest.matches('@').count() > 1 || rest.split(['/', '?']).skip(1).any(|part| part.contains('@')) {
        return Err("write '/', '?' and '@' in a user name, a password or a prefix as '%2F', '%3F', '%40'");
    }
    if authority.contains('?') || prefix.contains('?') {
        return Err("an etcd URL has no options ('?')");
    }
    let (user, hosts) = match authority.split_once('@') {
        Some((user, hosts)) => (Some(user), hosts),
        None => (None, authority),
    };
    let (user, password) = match user.map(|user| user.split_once(':').unwrap_or((user, ""))) {
        None => (None, None),
        Some(("", _)) => return Err("the user name before the '@' is missing"),
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

const WRONG_PORT: &str = "a port is a number from 1 to 65535 (write an IPv6 address in brackets)";

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
        return Err(WRONG_PORT);
    }
    if !is_one {
        return Err("a host name is missing or malformed: etcd://HOST[:PORT][,HOST…][/PREFIX]");
    }
    match port.map_or(Ok(PORT), str::parse) {
        Ok(port) if port != 0 => Ok(format!("{host}:{port}")),
        _ => Err(WRONG_PORT),
    }
}

impl fmt::Debug for EtcdUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EtcdUrl({}/{})", self.servers.join(","), self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn etcd(url: &str) -> EtcdUrl {
        EtcdUrl::parse(url).unwrap_or_else(|error| panic!("{error}"))
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
        ] {
            let error = EtcdUrl::parse(url).unwrap_err().to_string();
            assert!(error.contains(" cannot be used: "), "{error}");
            assert!(!error.contains("secret") && !error.contains("sec/"), "{error}");
        }
    }

    #[test]
    fn debugging_output_shows_no_password() {
        assert_eq!(format!("{:?}", etcd("etcd://u:secret@h/p")), "EtcdUrl(h:2379/p)");
    }
}
