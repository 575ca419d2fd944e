//! In place of the engine, in a build without it.

use super::Engine;
use super::url::EtcdUrl;
use crate::{Error, Result};

/// Says that it is not built in.
pub(super) fn open(url: EtcdUrl) -> Result<Box<dyn Engine>> {
    // All that it takes at once.
    let engine = if url.tls { "etcd,tls" } else { "etcd" };
    Err(Error::NotBuiltIn { engine })
}
