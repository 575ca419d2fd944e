//! The HTTP client, with or without TLS.

use super::gateway::BUDGET;
use crate::Result;
use crate::backend::names;
use std::sync::mpsc;
use ureq::Agent;
use ureq::config::{Config, ConfigBuilder};
use ureq::http::Uri;
use ureq::typestate::AgentScope;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};

/// A client with these settings and connections of its own.
pub(super) fn agent(settings: Config) -> Agent {
    Agent::with_parts(settings, DefaultConnector::default(), Names)
}

/// What all requests have in common.
fn common() -> ConfigBuilder<AgentScope> {
    // etcd's own client asks no proxy of the environment for plain connections either; a redirect would be a mistake.
    Config::builder()
        .proxy(None)
        .max_redirects(0)
        .http_status_as_error(false)
        .user_agent(concat!("resourcelock/", env!("CARGO_PKG_VERSION")))
}

/// The settings of a client. `place` is for the message.
#[cfg(not(feature = "tls"))]
pub(super) fn settings(tls: bool, place: &str) -> Result<Config> {
    if tls {
        return Err(crate::Error::Unsupported {
            engine: "etcd",
            what: format!("this build cannot speak TLS with {place}; build with --features etcd,tls"),
        });
    }
    Ok(common().build())
}

/// The settings of a client. `place` is for the message. Who signs the servers' certificates is read from
/// `ETCDCTL_CACERT`, else from the system's own list; a certificate of one's own from `ETCDCTL_CERT` and `ETCDCTL_KEY`:
/// as etcdctl does.
#[cfg(feature = "tls")]
pub(super) fn settings(tls: bool, place: &str) -> Result<Config> {
    if !tls {
        return Ok(common().build());
    }
    let tls = secure::settings().map_err(|what| crate::Error::Unsupported {
        engine: "etcd",
        what: format!("TLS with {place}: {what}"),
    })?;
    Ok(common().https_only(true).tls_config(tls).build())
}

/// Looks up hosts as [`names`] does.
#[derive(Debug)]
struct Names;

impl Resolver for Names {
    fn resolve(&self, uri: &Uri, _: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let (Some(host), Some(port)) = (uri.host(), uri.port_u16()) else {
            return Err(ureq::Error::BadUri("host and port are wanted".to_owned()));
        };
        let time = BUDGET.min(*timeout.after);
        let (tell, told) = mpsc::channel();
        let started = names::look_up(host, port, time, move |found| drop(tell.send(found)));
        started.map_err(|error| std::io::Error::other(error.to_string()))?;
        let found = told.recv_timeout(time);
        let found = found.map_err(|_| ureq::Error::Timeout(timeout.reason))??;
        let mut addresses = self.empty();
        for address in found.into_iter().take(MOST) {
            addresses.push(address);
        }
        Ok(addresses)
    }
}

/// As many addresses as the client takes.
const MOST: usize = 16;

#[cfg(feature = "tls")]
mod secure {
    use std::path::{Path, PathBuf};
    use std::sync::Arc;
    use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

    /// Where distributions keep the certificates that the system trusts.
    const SYSTEM: [&str; 3] = [
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/cert.pem",
    ];

    pub(super) fn settings() -> Result<TlsConfig, String> {
        let own = (file("ETCDCTL_CERT"), file("ETCDCTL_KEY"));
        let client = match own {
            (Some(certificate), Some(key)) => {
                let chain = certificates(&certificate)?;
                let key = std::fs::read(&key).map_err(|e| format!("{}: {e}", key.display()))?;
                let key = PrivateKey::from_pem(&key).map_err(|e| format!("ETCDCTL_KEY: {e}"))?;
                Some(ClientCert::new_with_certs(&chain, key))
            }
            (None, None) => None,
            _ => return Err("ETCDCTL_CERT and ETCDCTL_KEY belong together".to_owned()),
        };
        let roots = match file("ETCDCTL_CACERT") {
            Some(path) => RootCerts::Specific(Arc::new(certificates(&path)?)),
            None => match SYSTEM.iter().map(Path::new).find(|path| path.exists()) {
                Some(path) => RootCerts::Specific(Arc::new(certificates(path)?)),
                None => RootCerts::WebPki,
            },
        };
        Ok(TlsConfig::builder().root_certs(roots).client_cert(client).build())
    }

    fn file(variable: &str) -> Option<PathBuf> {
        std::env::var_os(variable)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    }

    fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, String> {
        let fail = |what: &dyn std::fmt::Display| format!("{}: {what}", path.display());
        let text = std::fs::read(path).map_err(|e| fail(&e))?;
        let mut found = Vec::new();
        for item in parse_pem(&text) {
            if let PemItem::Certificate(certificate) = item.map_err(|e| fail(&e))? {
                found.push(certificate);
            }
        }
        if found.is_empty() {
            return Err(fail(&"there is no certificate in it"));
        }
        Ok(found)
    }
}
