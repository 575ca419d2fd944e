//! In place of TLS, in a build without it.

use super::encryption::{Encryption, SslMode};
use super::settings::Server;
use crate::lock::types::{Error, Result};
use tokio_postgres::NoTls;

/// There is none.
pub(super) enum Tls {}

impl Tls {
    /// Refuses what asks for encryption.
    pub(super) fn new(encryption: &Encryption) -> Result<Option<Self>> {
        if encryption.mode >= SslMode::Require || encryption.asked {
            return Err(Error::NotBuiltIn { engine: "postgres,tls" });
        }
        Ok(None)
    }

    pub(super) fn handshake(&self, _: &Server) -> NoTls {
        match *self {}
    }
}
