//! What the URL and the environment say about a connection, as libpq reads them. What cannot be honoured is refused.

use super::encryption::Encryption;
use super::libpq_options::{Options, environment, is_libpqs, refuse, take_own};
use crate::lock::engines::{stored_request, url};
use crate::lock::system::printable;
use crate::lock::types::Result;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio_postgres::Config;
use tokio_postgres::config::{ChannelBinding, Host};

/// PostgreSQL's port.
const PORT: u16 = 5432;

/// Where local sockets are by default.
pub(super) const SOCKETS: &str = "/var/run/postgresql";

/// A function that reads a variable of the environment.
type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// One server to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) host: Host,
    /// `None`: the name has to be resolved.
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

impl Settings {
    /// Reads the URL and the environment.
    ///
    /// # Errors
    /// [`Error::Url`](crate::Error::Url), [`Error::Unsupported`](crate::Error::Unsupported).
    pub(super) fn read(url: &str) -> Result<Self> {
        Self::from(url, &environment, std::env::var_os("HOME").map(PathBuf::from))
    }

    fn from(url: &str, environment: Environment<'_>, home: Option<PathBuf>) -> Result<Self> {
        let wrong = |reason: &str| url::refusal(url, reason);
        let (rest, own) = take_own(url).map_err(wrong)?;
        let options = Options { url: &own, environment };
        let mut config: Config = rest.parse().map_err(|error| wrong(&unreadable(url, &error)))?;
        options.refuse_others()?;
        add_hosts(&mut config, environment).map_err(wrong)?;
        add_defaults(&mut config, environment)?;
        let servers = servers(&config, names_port(&rest), environment).map_err(wrong)?;
        options.check_words()?;
        let binding = [
            ("disable", ChannelBinding::Disable),
            ("prefer", ChannelBinding::Prefer),
            ("require", ChannelBinding::Require),
        ];
        if let Some(binding) = options.word("channel_binding", &binding)? {
            config.channel_binding(binding);
        }
        Ok(Self {
            encryption: Encryption::read(&options, home)?,
            servers,
            config,
        })
    }
}

/// Why the URL cannot be read. The error names the part that is wrong, not its value; but an option that it does not know
/// may be a part of a password.
fn unreadable(url: &str, error: &tokio_postgres::Error) -> String {
    let part = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
    let unknown = part.strip_prefix("unknown option `");
    match unknown.map(|rest| rest.trim_end_matches('`')) {
        Some(name) if is_libpqs(name) => format!("{name} cannot be honoured"),
        Some(_) if url.contains("password=") => {
            "an option behind the '?' is not known (in a value, write '&' as '%26')".to_owned()
        }
        Some(name) => format!("the option '{}' is not known", printable(name)),
        None => part,
    }
}

/// Hosts and addresses from the environment, if the URL names none.
fn add_hosts(config: &mut Config, environment: Environment<'_>) -> Result<(), &'static str> {
    let addresses = environment("PGHOSTADDR");
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        match environment("PGHOST") {
            Some(host) => config.host(host),
            None if addresses.is_some() => config,
            None => config.host_path(SOCKETS),
        };
    }
    if config.get_hostaddrs().is_empty()
        && let Some(addresses) = addresses
    {
        for address in addresses.split(',') {
            config.hostaddr(address.parse().map_err(|_| "PGHOSTADDR is not an address")?);
        }
    }
    Ok(())
}

/// What else the environment says, where the URL says nothing.
fn add_defaults(config: &mut Config, environment: Environment<'_>) -> Result<()> {
    if config.get_options().is_none()
        && let Some(options) = environment("PGOPTIONS")
    {
        config.options(options);
    }
    if config.get_user().is_none() {
        config.user(environment("PGUSER").unwrap_or_else(stored_request::user_name));
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
            Ok(_) => config, // no limit
            Err(_) => return refuse("PGCONNECT_TIMEOUT is not a number of seconds".to_owned()),
        };
    }
    Ok(())
}

/// True if the URL names a port.
fn names_port(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split_once('@').map_or(rest, |(_, rest)| rest);
    let (authority, options) = rest.split_once('?').unwrap_or((rest, ""));
    let hosts = authority.split('/').next().unwrap_or_default();
    // The colons of an IPv6 address are in brackets.
    hosts
        .split(',')
        .any(|host| host.rsplit(']').next().is_some_and(|end| end.contains(':')))
        || options.split('&').any(|option| option.starts_with("port="))
}

/// Hosts with their addresses and ports, in the order in which to try them.
fn servers(config: &Config, names_port: bool, environment: Environment<'_>) -> Result<Vec<Server>, &'static str> {
    let (hosts, addresses) = (config.get_hosts(), config.get_hostaddrs());
    if !hosts.is_empty() && !addresses.is_empty() && hosts.len() != addresses.len() {
        return Err("there must be as many hostaddr as hosts");
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
            // The name may be a part of the password: it is not shown.
            if name.contains('@') {
                return Err("write a '@' in a password as '%40'");
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::engines::postgres::encryption::{Roots, SslMode};

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
