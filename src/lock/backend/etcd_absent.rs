//! In place of the engine, in a build without it.

use super::Engine;
use super::url::EtcdUrl;
use crate::{Error, Result};

/// Says that it is not built in.
pub(super) fn open(_url: EtcdUrl) -> Result<Box<dyn Engine>> {
    Err(Error::NotBuiltIn { engine: "etcd" })
}
