//! In place of the engine, in a build without it.

use super::Engine;
use super::url::PostgresUrl;
use crate::{Error, Result};

/// Says that it is not built in.
pub(super) fn open(_url: PostgresUrl) -> Result<Box<dyn Engine>> {
    Err(Error::NotBuiltIn { engine: "postgres" })
}
