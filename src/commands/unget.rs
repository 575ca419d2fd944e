//! `unget`.

use super::Failure;
use crate::cli::{Common, UngetArgs};
use crate::exit::Exit;

/// Carries it out.
pub fn perform(_common: &Common, _args: &UngetArgs) -> Result<Exit, Failure> {
    Err(Failure::general("'unget' is not built yet"))
}
