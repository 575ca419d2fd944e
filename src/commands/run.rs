//! `run`.

use super::Failure;
use crate::cli::{Common, RunArgs};
use crate::exit::Exit;

/// Carries it out.
pub fn perform(_common: &Common, _args: RunArgs) -> Result<Exit, Failure> {
    Err(Failure::general("'run' is not built yet"))
}
