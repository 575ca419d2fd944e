//! In place of TLS, in a build without it.

use super::settings::{Encryption, Place, SslMode};
use super::wire::Wire;
use crate::{Error, Result};
use std::convert::Infallible;
use std::io;
use std::net::IpAddr;

/// There is none.
pub(super) struct Tls(Infallible);

impl Tls {
    /// Refuses what asks for encryption.
    pub(super) fn new(encryption: &Encryption) -> Result<Option<Self>> {
        if encryption.mode >= SslMode::Require || encryption.asked {
            return Err(Error::NotBuiltIn { engine: "postgres,tls" });
        }
        Ok(None)
    }

    pub(super) async fn secure(
        &self,
        _wire: Box<dyn Wire>,
        _place: &Place,
        _address: IpAddr,
    ) -> io::Result<(Box<dyn Wire>, Option<Vec<u8>>)> {
        match self.0 {}
    }
}

pub(super) fn is_refusal(_error: &io::Error) -> bool {
    false
}
