//! `history`.

use super::Failure;
use crate::cli::{Common, HistoryArgs};
use crate::exit::Exit;

/// Carries it out.
pub fn perform(_common: &Common, _args: &HistoryArgs) -> Result<Exit, Failure> {
    Err(Failure::general("'history' is not built yet"))
}
