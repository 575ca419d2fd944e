//! The HTTP client, with or without TLS.

use crate::lock::engines::{ANSWER_TIMEOUT, resolver};
use crate::lock::types::Result;
use std::sync::mpsc;
use ureq::Agent;
use ureq::config::{Config, ConfigBuilder};
use ureq::http::Uri;
use ureq::typestate::AgentScope;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};

/// A client with these settings, and with connections of its own.
pub(super) fn agent(settings: Config) -> Agent {
    Agent::with_parts(settings, DefaultConnector::default(), HostResolver)
}

/// Bytes of a connection's buffers. The headers of an answer have to leave room for one more; to have much more of them cleared takes
/// longer than to connect.
const BUFFER: usize = 16 * 1024;

/// What all requests have in common.
fn common() -> ConfigBuilder<AgentScope> {
    // etcd's own client uses no proxy from the environment for plain connections either; a redirect would be a mistake.
    Config::builder()
        .proxy(None)
        .max_redirects(0)
        .http_status_as_error(false)
        .input_buffer_size(BUFFER)
        .output_buffer_size(BUFFER)
        .max_response_header_size(BUFFER - 1)
        // A second one is needed for a moment only.
        .max_idle_connections_per_host(1)
        .user_agent(concat!("resourcelock/", env!("CARGO_PKG_VERSION")))
}

/// The settings of a client.
#[cfg(not(feature = "tls"))]
pub(super) fn settings(tls: bool) -> Result<Config> {
    if tls {
        return Err(crate::Error::NotBuiltIn { engine: "etcd,tls" });
    }
    Ok(common().build())
}

/// The settings of a client. As etcdctl does, it reads who signs the servers' certificates from `ETCDCTL_CACERT`, else
/// from the system's list, and our own certificate from `ETCDCTL_CERT` and `ETCDCTL_KEY`.
#[cfg(feature = "tls")]
pub(super) fn settings(tls: bool) -> Result<Config> {
    if !tls {
        return Ok(common().build());
    }
    Ok(common().https_only(true).tls_config(secure::settings()?).build())
}

/// The client takes this many addresses at most.
const MOST_ADDRESSES: usize = 16;

/// Resolves hosts as [`resolver`] does.
#[derive(Debug)]
struct HostResolver;

impl Resolver for HostResolver {
    fn resolve(&self, uri: &Uri, _: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let (Some(host), Some(port)) = (uri.host(), uri.port_u16()) else {
            return Err(ureq::Error::BadUri("host and port are missing".to_owned()));
        };
        let time = ANSWER_TIMEOUT.min(*timeout.after);
        let (tell, told) = mpsc::channel();
        let started = resolver::resolve(host, port, time, move |found| drop(tell.send(found)));
        started.map_err(|error| std::io::Error::other(error.to_string()))?;
        let found = told.recv_timeout(time);
        let found = found.map_err(|_| ureq::Error::Timeout(timeout.reason))??;
        let mut addresses = self.empty();
        for address in found.into_iter().take(MOST_ADDRESSES) {
            addresses.push(address);
        }
        Ok(addresses)
    }
}

#[cfg(feature = "tls")]
mod secure {
    use crate::lock::engines::certificates;
    use crate::lock::system::trusted_certificates;
    use crate::lock::types::{Error, Result};
    use std::path::{Path, PathBuf};
    use std::sync::Arc;
    use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

    pub(super) fn settings() -> Result<TlsConfig> {
        let own = (file("ETCDCTL_CERT"), file("ETCDCTL_KEY"));
        let client = match own {
            (Some(certificate), Some(key)) => {
                let chain = certificates("read ETCDCTL_CERT", &certificate)?;
                let fail = |why| certificates::unreadable("read ETCDCTL_KEY", &key, why);
                let text = std::fs::read(&key).map_err(|e| fail(e.to_string()))?;
                let key = PrivateKey::from_pem(&text).map_err(|e| fail(e.to_string()))?;
                Some(ClientCert::new_with_certs(&chain, key))
            }
            (None, None) => None,
            _ => {
                return Err(Error::Unsupported {
                    engine: "etcd",
                    what: "ETCDCTL_CERT and ETCDCTL_KEY belong together".to_owned(),
                });
            }
        };
        let roots = match file("ETCDCTL_CACERT") {
            Some(path) => RootCerts::Specific(Arc::new(certificates("read ETCDCTL_CACERT", &path)?)),
            None => match trusted_certificates() {
                Some(path) => RootCerts::Specific(Arc::new(certificates("read", path)?)),
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

    fn certificates(doing: &'static str, path: &Path) -> Result<Vec<Certificate<'static>>> {
        let found = certificates::read(doing, path)?;
        Ok(found
            .iter()
            .map(|found| Certificate::from_der(found).to_owned())
            .collect())
    }
}
