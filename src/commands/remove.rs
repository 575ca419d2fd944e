//! `remove`.

use super::Failure;
use crate::cli::{Common, RemoveArgs};
use crate::exit::Exit;

/// Carries it out.
pub fn perform(_common: &Common, _args: &RemoveArgs) -> Result<Exit, Failure> {
    Err(Failure::general("'remove' is not built yet"))
}
