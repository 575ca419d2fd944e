//! What a URL and the environment say about a connection, as libpq reads them. What cannot be honoured is refused.

use crate::lock::engines::url::{self, decoded};
use crate::lock::system::printable;
use crate::{Error, Result};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio_postgres::Config;
use tokio_postgres::config::{ChannelBinding, Host};

/// PostgreSQL's port.
const PORT: u16 = 5432;

/// Where local sockets are if nothing is said.
pub(super) const SOCKETS: &str = "/var/run/postgresql";

/// `sslmode`: from the weakest on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SslMode {
    Disable,
    Allow,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

/// Who may have signed the server's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Roots {
    /// Whoever stands in this file.
    File(PathBuf),
    /// Whoever the system trusts.
    System,
    /// Nobody is named: anybody.
    Any,
}

/// Everything about encryption.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Encryption {
    pub(super) mode: SslMode,
    pub(super) roots: Roots,
    /// Certificates that were called back.
    pub(super) revoked: Option<PathBuf>,
    /// Our own certificate and its key.
    pub(super) own: Option<(PathBuf, PathBuf)>,
    /// Whether the server is told by which name it was reached.
    pub(super) names_server: bool,
    /// The oldest and the newest TLS that will do: 1.2 or 1.3.
    pub(super) versions: (u8, u8),
    /// Something about it stands in the URL itself.
    pub(super) asked: bool,
}

/// One server to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) host: Host,
    /// Where the name need not be looked up.
    pub(super) address: Option<IpAddr>,
    pub(super) port: u16,
}

impl Server {
    /// Its name, for messages.
    pub(super) fn name(&self) -> String {
        match &self.host {
            Host::Tcp(name) => printable(name),
            Host::Unix(path) => path.display().to_string(),
        }
    }
}

pub(super) struct Settings {
    /// User, database, password and the like.
    pub(super) config: Config,
    pub(super) servers: Vec<Server>,
    pub(super) encryption: Encryption,
}

/// Reads the environment: a variable that is empty counts as absent.
pub(super) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn refuse<T>(what: String) -> Result<T> {
    Err(Error::Unsupported {
        engine: "postgres",
        what,
    })
}

/// An option of the URL that is read here, and the variable that stands for it.
const OWN: [(&str, &str); 15] = [
    ("sslmode", "PGSSLMODE"),
    ("sslrootcert", "PGSSLROOTCERT"),
    ("sslcert", "PGSSLCERT"),
    ("sslkey", "PGSSLKEY"),
    ("sslcrl", "PGSSLCRL"),
    ("sslsni", "PGSSLSNI"),
    ("sslcertmode", "PGSSLCERTMODE"),
    ("ssl_min_protocol_version", "PGSSLMINPROTOCOLVERSION"),
    ("ssl_max_protocol_version", "PGSSLMAXPROTOCOLVERSION"),
    ("sslnegotiation", "PGSSLNEGOTIATION"),
    ("channel_binding", "PGCHANNELBINDING"),
    ("gssencmode", "PGGSSENCMODE"),
    ("target_session_attrs", "PGTARGETSESSIONATTRS"),
    ("load_balance_hosts", "PGLOADBALANCEHOSTS"),
    ("sslcompression", "PGSSLCOMPRESSION"),
];

/// Variables that ask for something which is not done here.
const REFUSED: [&str; 3] = ["PGREQUIREAUTH", "PGREQUIREPEER", "PGSSLCRLDIR"];

/// Options of libpq that are not known here.
const LIBPQ_ONLY: [&str; 14] = [
    "client_encoding",
    "fallback_application_name",
    "gssdelegation",
    "gsslib",
    "krbsrvname",
    "passfile",
    "replication",
    "require_auth",
    "requirepeer",
    "requiressl",
    "service",
    "sslcrldir",
    "sslkeylogfile",
    "sslpassword",
];

/// Names and values, as they stand in the URL.
type Pairs = Vec<(String, String)>;

/// The options that are read here, by URL and environment.
struct Options<'a> {
    url: &'a [(String, String)],
    environment: &'a dyn Fn(&str) -> Option<String>,
}

impl Options<'_> {
    /// Where it stands, for a message, and what.
    fn get(&self, name: &str) -> Option<(String, String)> {
        // The last one counts.
        let in_url = self
            .url
            .iter()
            .rev()
            .find(|(key, value)| key == name && !value.is_empty());
        if let Some((key, value)) = in_url {
            return Some((key.clone(), value.clone()));
        }
        let (_, variable) = OWN.iter().find(|(key, _)| *key == name)?;
        let value = (self.environment)(variable)?;
        Some(((*variable).to_owned(), value))
    }

    fn value(&self, name: &str) -> Option<String> {
        self.get(name).map(|(_, value)| value)
    }

    /// One of the words that are known.
    fn word<T: Copy>(&self, name: &str, words: &[(&str, T)]) -> Result<Option<T>> {
        let Some((place, value)) = self.get(name) else {
            return Ok(None);
        };
        match words.iter().find(|(word, _)| *word == value) {
            Some((_, meaning)) => Ok(Some(*meaning)),
            None => {
                let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                refuse(format!(
                    "{place}={}: only {} can be honoured",
                    printable(&value),
                    known.join(", ")
                ))
            }
        }
    }
}

impl Settings {
    /// # Errors
    /// [`Error::Url`], [`Error::Unsupported`].
    pub(super) fn read(url: &str) -> Result<Self> {
        Self::from(url, &environment, std::env::var_os("HOME").map(PathBuf::from))
    }

    fn from(url: &str, environment: &dyn Fn(&str) -> Option<String>, home: Option<PathBuf>) -> Result<Self> {
        let wrong = |reason: String| url::refusal(url, reason);
        let (url_left, own) = take_own(url).map_err(|reason| wrong(reason.to_owned()))?;
        let options = Options { url: &own, environment };
        let mut config: Config = url_left.parse().map_err(|error: tokio_postgres::Error| {
            // It names the part that is wrong, not what stands there; but an option that it does not know may be a part
            // of a password.
            let part = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            let unknown = part
                .strip_prefix("unknown option `")
                .map(|rest| rest.trim_end_matches('`'));
            wrong(match unknown {
                Some(name) if LIBPQ_ONLY.contains(&name) => format!("{name} cannot be honoured"),
                // What stands behind a password may be a part of it.
                Some(_) if url.contains("password=") => {
                    "an option behind the '?' is not known (in a value, '&' is written '%26')".to_owned()
                }
                Some(name) => format!("the option '{}' is not known", printable(name)),
                None => part,
            })
        })?;
        for variable in REFUSED {
            if environment(variable).is_some() {
                return refuse(format!("{variable} is set and cannot be honoured"));
            }
        }
        if environment("PGSERVICE").is_some() && options.get("sslmode").is_none() {
            return refuse("PGSERVICE is set and service files are not read: unset it, or add sslmode=…".to_owned());
        }
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            match environment("PGHOST") {
                Some(host) => config.host(host),
                None if environment("PGHOSTADDR").is_some() => &mut config,
                None => config.host_path(SOCKETS),
            };
        }
        if config.get_hostaddrs().is_empty()
            && let Some(addresses) = environment("PGHOSTADDR")
        {
            for address in addresses.split(',') {
                let address = address
                    .parse()
                    .map_err(|_| wrong("PGHOSTADDR is not an address".to_owned()))?;
                config.hostaddr(address);
            }
        }
        if config.get_options().is_none()
            && let Some(options) = environment("PGOPTIONS")
        {
            config.options(options);
        }
        if config.get_user().is_none() {
            config.user(environment("PGUSER").unwrap_or_else(crate::lock::engines::stored_request::user_name));
        }
        if config.get_dbname().is_none()
            && let Some(database) = environment("PGDATABASE")
        {
            config.dbname(database);
        }
        if config.get_connect_timeout().is_none()
            && let Some(seconds) = environment("PGCONNECT_TIMEOUT")
        {
            match seconds.parse::<i64>().map(u64::try_from) {
                Ok(Ok(seconds @ 1..)) => config.connect_timeout(Duration::from_secs(seconds)),
                Ok(_) => &mut config, // no limit
                Err(_) => return refuse("PGCONNECT_TIMEOUT is not a number of seconds".to_owned()),
            };
        }
        let servers =
            servers(&config, names_port(&url_left), environment).map_err(|reason| wrong(reason.to_owned()))?;
        // The server that is wanted is always one that can be written to: a standby keeps locks of its own.
        options.word(
            "target_session_attrs",
            &[("any", ()), ("read-write", ()), ("primary", ())],
        )?;
        options.word("load_balance_hosts", &[("disable", ())])?;
        options.word("gssencmode", &[("disable", ()), ("prefer", ())])?;
        options.word("sslnegotiation", &[("postgres", ())])?;
        options.word("sslcompression", &[("0", ())])?;
        let binding = [
            ("disable", ChannelBinding::Disable),
            ("prefer", ChannelBinding::Prefer),
            ("require", ChannelBinding::Require),
        ];
        if let Some(binding) = options.word("channel_binding", &binding)? {
            config.channel_binding(binding);
        }
        Ok(Self {
            encryption: encryption(&options, home)?,
            servers,
            config,
        })
    }
}

/// The URL without the options that are read here, and those.
fn take_own(url: &str) -> Result<(String, Pairs), &'static str> {
    let start = url.find("://").map_or(0, |at| at + 3);
    // The rest is read with everything before the first '@' as user and password.
    let hosts = start + url[start..].find('@').map_or(0, |at| at + 1);
    if url[start..hosts].contains(['/', '?']) {
        return Err("'/', '?' and '@' in a user's name, a password or an option are written '%2F', '%3F', '%40'");
    }
    let Some(question) = url[hosts..].find('?').map(|at| hosts + at) else {
        return Ok((url.to_owned(), Vec::new()));
    };
    let (mut own, mut left) = (Vec::new(), Vec::new());
    for option in url[question + 1..].split('&').filter(|option| !option.is_empty()) {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        let key = decoded(key)?;
        if OWN.iter().any(|(name, _)| *name == key) {
            own.push((key, decoded(value)?));
        } else {
            left.push(option);
        }
    }
    let base = &url[..question];
    let left = if left.is_empty() {
        base.to_owned()
    } else {
        format!("{base}?{}", left.join("&"))
    };
    Ok((left, own))
}

/// Whether a port stands in the URL.
fn names_port(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split_once('@').map_or(rest, |(_, rest)| rest);
    let (authority, options) = rest.split_once('?').unwrap_or((rest, ""));
    let hosts = authority.split('/').next().unwrap_or_default();
    // The colons of an IPv6 address stand in brackets.
    hosts
        .split(',')
        .any(|host| host.rsplit(']').next().is_some_and(|end| end.contains(':')))
        || options.split('&').any(|option| option.starts_with("port="))
}

/// Hosts with their addresses and ports, in the order in which they are tried.
fn servers(
    config: &Config,
    names_port: bool,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<Server>, &'static str> {
    let (hosts, addresses) = (config.get_hosts(), config.get_hostaddrs());
    if !hosts.is_empty() && !addresses.is_empty() && hosts.len() != addresses.len() {
        return Err("there have to be as many hostaddr as hosts");
    }
    let port = match environment("PGPORT").filter(|_| !names_port) {
        Some(port) => Some(port.parse().map_err(|_| "PGPORT is not a port")?),
        None => None,
    };
    let count = hosts.len().max(addresses.len());
    let all = (0..count).map(|i| {
        let address = addresses.get(i).copied();
        let host = hosts.get(i).cloned();
        let host = host.or_else(|| address.map(|address| Host::Tcp(address.to_string())));
        let host = host.ok_or("no host is named")?;
        if let Host::Tcp(name) = &host {
            // What stands there may be a part of the password: it is not shown.
            if name.contains('@') {
                return Err("a '@' in a password is written '%40'");
            }
            if name.is_empty() {
                return Err("a host is missing");
            }
        }
        let ports = config.get_ports();
        let named = ports.get(i).or(ports.first()).copied();
        Ok(Server {
            address: address.or_else(|| match &host {
                Host::Tcp(name) => name.parse().ok(),
                Host::Unix(_) => None,
            }),
            host,
            port: port.or(named).unwrap_or(PORT),
        })
    });
    all.collect()
}

fn encryption(options: &Options<'_>, home: Option<PathBuf>) -> Result<Encryption> {
    let modes = [
        ("disable", SslMode::Disable),
        ("allow", SslMode::Allow),
        ("prefer", SslMode::Prefer),
        ("require", SslMode::Require),
        ("verify-ca", SslMode::VerifyCa),
        ("verify-full", SslMode::VerifyFull),
    ];
    let usual = |name: &str| home.as_ref().map(|home| home.join(".postgresql").join(name));
    let there = |name: &str| usual(name).filter(|path| path.exists());
    let root = options.value("sslrootcert");
    let system = root.as_deref() == Some("system");
    let mode = options.word("sslmode", &modes)?;
    if system && mode.is_some_and(|mode| mode != SslMode::VerifyFull) {
        return refuse("sslrootcert=system goes with sslmode=verify-full only: anybody has a certificate".to_owned());
    }
    // An older way to say it, which libpq still knows.
    let required = (options.environment)("PGREQUIRESSL").is_some_and(|value| value.starts_with('1'));
    let mode = mode.unwrap_or(match (system, required) {
        (true, _) => SslMode::VerifyFull,
        (false, true) => SslMode::Require,
        (false, false) => SslMode::Prefer,
    });
    let roots = match (root, there("root.crt")) {
        _ if system => Roots::System,
        (Some(path), _) => Roots::File(path.into()),
        (None, Some(path)) => Roots::File(path),
        (None, None) => Roots::Any,
    };
    let roots = match roots {
        // As libpq: what is only encrypted needs no authority.
        Roots::File(path) if mode < SslMode::VerifyCa && !path.exists() => Roots::Any,
        other => other,
    };
    if mode >= SslMode::VerifyCa && roots == Roots::Any {
        return refuse(format!(
            "the server's certificate is to be checked, but no authority is named: sslrootcert=FILE, \
             sslrootcert=system or {}",
            usual("root.crt").map_or_else(
                || "~/.postgresql/root.crt".to_owned(),
                |path| path.display().to_string()
            )
        ));
    }
    let sends = options.word("sslcertmode", &[("allow", true), ("disable", false)])?;
    let certificate = options
        .value("sslcert")
        .map(PathBuf::from)
        .or_else(|| there("postgresql.crt"));
    let own = certificate.filter(|_| sends != Some(false)).map(|certificate| {
        let key = options.value("sslkey").map(PathBuf::from);
        let key = key.or_else(|| usual("postgresql.key"));
        (certificate, key.unwrap_or_else(|| "postgresql.key".into()))
    });
    let old = [("TLSv1", 2), ("TLSv1.1", 2), ("TLSv1.2", 2), ("TLSv1.3", 3)];
    let oldest = options.word("ssl_min_protocol_version", &old)?.unwrap_or(2);
    let newest = options.word("ssl_max_protocol_version", &old[2..])?.unwrap_or(3);
    if oldest > newest {
        return refuse("ssl_min_protocol_version is above ssl_max_protocol_version".to_owned());
    }
    Ok(Encryption {
        mode,
        roots,
        revoked: options.value("sslcrl").map(PathBuf::from).or_else(|| there("root.crl")),
        own,
        names_server: options.word("sslsni", &[("1", true), ("0", false)])?.unwrap_or(true),
        versions: (oldest, newest),
        asked: options
            .url
            .iter()
            .any(|(key, _)| key.starts_with("ssl") && key != "sslmode"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str, environment: &[(&str, &str)]) -> Result<Settings> {
        let environment: Vec<(String, String)> = environment
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        let find = move |name: &str| environment.iter().find(|(k, _)| k == name).map(|(_, v)| v.clone());
        Settings::from(url, &find, Some("/nonexistent".into()))
    }

    fn error(url: &str, environment: &[(&str, &str)]) -> String {
        match read(url, environment) {
            Err(error) => error.to_string(),
            Ok(_) => panic!("{url} was accepted"),
        }
    }

    #[test]
    fn sslmode_by_url_environment_and_default() {
        let mode = |url: &str, environment: &[(&str, &str)]| read(url, environment).unwrap().encryption.mode;
        assert_eq!(mode("postgres://h/d", &[]), SslMode::Prefer);
        assert_eq!(mode("postgres://h/d?sslmode=require", &[]), SslMode::Require);
        assert_eq!(mode("postgres://h/d", &[("PGSSLMODE", "allow")]), SslMode::Allow);
        assert_eq!(
            mode("postgres://h/d?sslmode=disable", &[("PGSSLMODE", "require")]),
            SslMode::Disable
        );
        let full = read(
            "postgres://h/d?sslmode=verify-full&sslrootcert=%2Fa%20b&sslcert=/c&sslkey=/k&connect_timeout=3",
            &[],
        );
        let full = full.unwrap().encryption;
        assert_eq!(full.roots, Roots::File("/a b".into()));
        assert_eq!(full.own, Some(("/c".into(), "/k".into())));
        let system = read("postgres://h/d?sslrootcert=system", &[]).unwrap().encryption;
        assert_eq!((system.mode, system.roots), (SslMode::VerifyFull, Roots::System));
    }

    #[test]
    fn what_cannot_be_honoured_is_refused() {
        for (url, environment, why) in [
            ("postgres://h/d?sslmode=verify", &[][..], "sslmode=verify"),
            ("postgres://h/d", &[("PGSSLMODE", "on")], "PGSSLMODE=on"),
            ("postgres://h/d?sslmode=verify-ca", &[], "no authority is named"),
            (
                "postgres://h/d?sslmode=require&sslrootcert=system",
                &[],
                "verify-full only",
            ),
            ("postgres://h/d?sslcrldir=/x", &[], "sslcrldir"),
            ("postgres://h/d?require_auth=none", &[], "require_auth"),
            ("postgres://h/d?sslnegotiation=direct", &[], "sslnegotiation"),
            (
                "postgres://h/d?target_session_attrs=standby",
                &[],
                "target_session_attrs",
            ),
            ("postgres://h/d?load_balance_hosts=random", &[], "load_balance_hosts"),
            ("postgres://h/d?sslcertmode=require", &[], "sslcertmode"),
            ("postgres://h/d?ssl_max_protocol_version=TLSv1.1", &[], "TLSv1.1"),
            (
                "postgres://h/d?ssl_min_protocol_version=TLSv1.3&ssl_max_protocol_version=TLSv1.2",
                &[],
                "above",
            ),
            ("postgres://h/d", &[("PGREQUIREAUTH", "scram-sha-256")], "PGREQUIREAUTH"),
            ("postgres://h/d", &[("PGSERVICE", "x")], "PGSERVICE"),
            ("postgres://h/d", &[("PGGSSENCMODE", "require")], "PGGSSENCMODE"),
            ("postgres://h/d", &[("PGPORT", "x")], "PGPORT"),
            ("postgres://a,b/d?hostaddr=127.0.0.1", &[], "as many hostaddr"),
        ] {
            let said = error(url, environment);
            assert!(said.contains(why), "{url}: {said}");
        }
    }

    #[test]
    fn a_password_with_an_at_sign_is_not_taken_for_a_host() {
        for url in [
            "postgres://u:pa@secret@h/d",
            "postgres://u:secret/x@h/d",
            "postgres://h/d?sslmode=verify-full&options=-csecret=a@b",
        ] {
            let said = error(url, &[]);
            assert!(said.contains("%40") && !said.contains("secret"), "{said}");
        }
    }

    #[test]
    fn a_part_of_a_password_is_not_taken_for_an_option() {
        let said = error("postgres://h/d?password=top&secret=1", &[]);
        assert!(
            said.contains("%26") && !said.contains("secret") && !said.contains("top"),
            "{said}"
        );
    }

    #[test]
    fn variables_that_libpq_reads() {
        let of = |environment: &[(&str, &str)]| read("postgres://h/d", environment).unwrap();
        assert_eq!(of(&[("PGREQUIRESSL", "1")]).encryption.mode, SslMode::Require);
        assert_eq!(of(&[("PGREQUIRESSL", "0")]).encryption.mode, SslMode::Prefer);
        assert_eq!(
            of(&[("PGREQUIRESSL", "1"), ("PGSSLMODE", "disable")]).encryption.mode,
            SslMode::Disable
        );
        let named = of(&[("PGHOSTADDR", "10.0.0.1")]);
        assert_eq!(named.servers[0].host, Host::Tcp("h".to_owned()));
        assert_eq!(named.servers[0].address, Some([10, 0, 0, 1].into()));
        let other = read("postgres://h/d?hostaddr=10.0.0.2", &[("PGHOSTADDR", "10.0.0.1")]).unwrap();
        assert_eq!(other.servers[0].address, Some([10, 0, 0, 2].into()));
        let alone = read("postgres:///d", &[("PGHOSTADDR", "10.0.0.1")]).unwrap();
        assert_eq!(alone.servers[0].host, Host::Tcp("10.0.0.1".to_owned()));
        assert!(error("postgres://h/d", &[("PGHOSTADDR", "h")]).contains("PGHOSTADDR"));
        assert!(error("postgres://h/d", &[("PGCONNECT_TIMEOUT", "soon")]).contains("PGCONNECT_TIMEOUT"));
        for (url, variable, limit) in [
            ("postgres://h/d", "3", Some(3)),
            ("postgres://h/d?connect_timeout=1", "3", Some(1)),
            ("postgres://h/d", "0", None),
            ("postgres://h/d", "-1", None),
        ] {
            let config = read(url, &[("PGCONNECT_TIMEOUT", variable)]).unwrap().config;
            let limit = limit.map(Duration::from_secs);
            assert_eq!(config.get_connect_timeout(), limit.as_ref(), "{url} {variable}");
        }
        assert_eq!(of(&[("PGOPTIONS", "-c a=b")]).config.get_options(), Some("-c a=b"));
    }

    #[test]
    fn places_with_ports_and_addresses() {
        let list = |url: &str, environment: &[(&str, &str)]| -> Vec<(Option<String>, u16)> {
            let servers = read(url, environment).unwrap().servers;
            let text = |server: Server| (server.address.map(|address| address.to_string()), server.port);
            servers.into_iter().map(text).collect()
        };
        assert_eq!(list("postgres://h/d", &[]), [(None, 5432)]);
        assert_eq!(list("postgres://h/d", &[("PGPORT", "6000")]), [(None, 6000)]);
        assert_eq!(list("postgres://h:1/d", &[("PGPORT", "6000")]), [(None, 1)]);
        assert_eq!(
            list("postgres://a:1,[::1]:2/d", &[]),
            [(None, 1), (Some("::1".to_owned()), 2)]
        );
        assert_eq!(
            list("postgres://a:1/d?hostaddr=127.0.0.9", &[]),
            [(Some("127.0.0.9".to_owned()), 1)]
        );
        assert_eq!(list("postgres:///d?host=/run/x&port=7", &[]), [(None, 7)]);
    }
}
