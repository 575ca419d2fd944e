//! What the URL, the environment and the home directory say about encryption, as libpq reads them.

use super::libpq_options::{Options, refuse};
use crate::lock::types::Result;
use std::path::PathBuf;

/// `sslmode`, from the weakest on.
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
    /// The authorities in this file.
    File(PathBuf),
    /// The authorities that the system trusts.
    System,
    /// No authority is named: anybody.
    Any,
}

/// Everything about encryption.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Encryption {
    pub(super) mode: SslMode,
    pub(super) roots: Roots,
    /// A list of revoked certificates.
    pub(super) revoked: Option<PathBuf>,
    /// Our own certificate and its key.
    pub(super) own: Option<(PathBuf, PathBuf)>,
    /// The server is told by which name it was reached.
    pub(super) names_server: bool,
    /// The oldest and the newest version of TLS to accept: 2 is 1.2, 3 is 1.3.
    pub(super) versions: (u8, u8),
    /// The URL itself says something about it.
    pub(super) asked: bool,
}

impl Encryption {
    /// # Errors
    /// [`Error::Unsupported`](crate::Error::Unsupported).
    pub(super) fn read(options: &Options<'_>, home: Option<PathBuf>) -> Result<Self> {
        let home = Home(home);
        let (mode, system) = mode(options)?;
        let (oldest, newest) = versions(options)?;
        Ok(Self {
            mode,
            roots: if system {
                Roots::System
            } else {
                roots(options, mode, &home)?
            },
            revoked: options
                .value("sslcrl")
                .map(PathBuf::from)
                .or_else(|| home.existing("root.crl")),
            own: own_certificate(options, &home)?,
            names_server: options.word("sslsni", &[("1", true), ("0", false)])?.unwrap_or(true),
            versions: (oldest, newest),
            asked: options
                .url
                .iter()
                .any(|(key, _)| key.starts_with("ssl") && key != "sslmode"),
        })
    }
}

/// The home directory, where libpq's files are.
struct Home(Option<PathBuf>);

impl Home {
    fn file(&self, name: &str) -> Option<PathBuf> {
        self.0.as_ref().map(|home| home.join(".postgresql").join(name))
    }

    fn existing(&self, name: &str) -> Option<PathBuf> {
        self.file(name).filter(|path| path.exists())
    }
}

/// The mode; and true if the system's authorities count.
fn mode(options: &Options<'_>) -> Result<(SslMode, bool)> {
    let modes = [
        ("disable", SslMode::Disable),
        ("allow", SslMode::Allow),
        ("prefer", SslMode::Prefer),
        ("require", SslMode::Require),
        ("verify-ca", SslMode::VerifyCa),
        ("verify-full", SslMode::VerifyFull),
    ];
    let mode = options.word("sslmode", &modes)?;
    let system = options.value("sslrootcert").as_deref() == Some("system");
    if system && mode.is_some_and(|mode| mode != SslMode::VerifyFull) {
        return refuse("sslrootcert=system goes with sslmode=verify-full only: anybody has a certificate".to_owned());
    }
    // An older way to say it, which libpq still knows.
    let required = (options.environment)("PGREQUIRESSL").is_some_and(|value| value.starts_with('1'));
    let default = match (system, required) {
        (true, _) => SslMode::VerifyFull,
        (false, true) => SslMode::Require,
        (false, false) => SslMode::Prefer,
    };
    Ok((mode.unwrap_or(default), system))
}

fn roots(options: &Options<'_>, mode: SslMode, home: &Home) -> Result<Roots> {
    let file = options.value("sslrootcert").map(PathBuf::from);
    match file.or_else(|| home.existing("root.crt")) {
        // As in libpq: what is only encrypted needs no authority.
        Some(path) if mode >= SslMode::VerifyCa || path.exists() => Ok(Roots::File(path)),
        None if mode >= SslMode::VerifyCa => {
            let usual = home.file("root.crt").unwrap_or_else(|| "~/.postgresql/root.crt".into());
            refuse(format!(
                "the server's certificate is to be checked, but no authority is named: sslrootcert=FILE, \
                 sslrootcert=system or {}",
                usual.display()
            ))
        }
        Some(_) | None => Ok(Roots::Any),
    }
}

/// Our own certificate and its key.
fn own_certificate(options: &Options<'_>, home: &Home) -> Result<Option<(PathBuf, PathBuf)>> {
    if options.word("sslcertmode", &[("allow", true), ("disable", false)])? == Some(false) {
        return Ok(None);
    }
    let certificate = options.value("sslcert").map(PathBuf::from);
    let certificate = certificate.or_else(|| home.existing("postgresql.crt"));
    let key = options.value("sslkey").map(PathBuf::from);
    let key = key.or_else(|| home.file("postgresql.key"));
    Ok(certificate.map(|certificate| (certificate, key.unwrap_or_else(|| "postgresql.key".into()))))
}

fn versions(options: &Options<'_>) -> Result<(u8, u8)> {
    let old = [("TLSv1", 2), ("TLSv1.1", 2), ("TLSv1.2", 2), ("TLSv1.3", 3)];
    let oldest = options.word("ssl_min_protocol_version", &old)?.unwrap_or(2);
    let newest = options.word("ssl_max_protocol_version", &old[2..])?.unwrap_or(3);
    if oldest > newest {
        return refuse("ssl_min_protocol_version is above ssl_max_protocol_version".to_owned());
    }
    Ok((oldest, newest))
}
