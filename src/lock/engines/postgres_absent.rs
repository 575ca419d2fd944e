//! In place of the engine, in a build without it.

use super::Engine;
use super::url::PostgresUrl;
use crate::{Error, Result};

/// Says that it is not built in.
pub(super) fn open(url: PostgresUrl) -> Result<Box<dyn Engine>> {
    // All that it takes at once: what asks for encryption is known without reading the whole URL.
    let asks = ["sslmode=require", "sslmode=verify", "sslrootcert="];
    let tls = asks.iter().any(|option| url.secret.contains(option));
    let engine = if tls { "postgres,tls" } else { "postgres" };
    Err(Error::NotBuiltIn { engine })
}
