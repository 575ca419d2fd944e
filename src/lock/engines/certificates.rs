//! Reading certificates from files.

use crate::lock::types::{Error, Result};
use std::io;
use std::path::Path;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::{Error as PemError, PemObject};

/// All certificates in a PEM file, at least one. `doing`: what for, as in "read sslcert".
pub(super) fn read(doing: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let fail = |e: PemError| match e {
        PemError::Io(e) => unreadable(doing, path, e),
        other => unreadable(doing, path, other),
    };
    let all = CertificateDer::pem_file_iter(path).map_err(fail)?;
    let all: Vec<_> = all.collect::<Result<_, _>>().map_err(fail)?;
    if all.is_empty() {
        return Err(unreadable(doing, path, "there is no certificate in it"));
    }
    Ok(all)
}

/// The error that says what was to be done with which file, and why it cannot be.
pub(super) fn unreadable(
    doing: &'static str,
    path: &Path,
    why: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Error {
    Error::Os {
        doing,
        path: path.to_owned(),
        source: io::Error::other(why),
    }
}
