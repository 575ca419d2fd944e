//! `get`.

use super::Failure;
use crate::cli::{Common, GetArgs};
use crate::exit::Exit;

/// Carries it out.
pub fn perform(_common: &Common, _args: &GetArgs) -> Result<Exit, Failure> {
    Err(Failure::general("'get' is not built yet"))
}
