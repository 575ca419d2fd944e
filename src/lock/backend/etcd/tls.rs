//! The HTTP client, with or without TLS.

use crate::Result;
use ureq::Agent;
use ureq::config::{Config, ConfigBuilder};
use ureq::typestate::AgentScope;

/// What all requests have in common.
fn settings() -> ConfigBuilder<AgentScope> {
    // etcd's own client asks no proxy of the environment for plain connections either; a redirect would be a mistake.
    Config::builder()
        .proxy(None)
        .max_redirects(0)
        .http_status_as_error(false)
        .user_agent(concat!("resourcelock/", env!("CARGO_PKG_VERSION")))
}

/// A client. `place` is for the message.
#[cfg(not(feature = "tls"))]
pub(super) fn agent(tls: bool, place: &str) -> Result<Agent> {
    if tls {
        return Err(crate::Error::Unsupported {
            engine: "etcd",
            what: format!("this build cannot speak TLS with {place}; build with --features etcd,tls"),
        });
    }
    Ok(settings().build().into())
}

/// A client. `place` is for the message. Who signs the servers' certificates is read from `ETCDCTL_CACERT`, else from
/// the system's own list; a certificate of one's own from `ETCDCTL_CERT` and `ETCDCTL_KEY`: as etcdctl does.
#[cfg(feature = "tls")]
pub(super) fn agent(tls: bool, place: &str) -> Result<Agent> {
    if !tls {
        return Ok(settings().build().into());
    }
    let tls = secure::settings().map_err(|what| crate::Error::Unsupported {
        engine: "etcd",
        what: format!("TLS with {place}: {what}"),
    })?;
    Ok(settings().https_only(true).tls_config(tls).build().into())
}

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
