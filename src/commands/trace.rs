//! `trace`.

use super::Failure;
use crate::cli::{Common, TraceArgs};
use crate::exit::Exit;

/// Carries it out.
pub fn perform(_common: &Common, _args: &TraceArgs) -> Result<Exit, Failure> {
    Err(Failure::general("'trace' is not built yet"))
}
