//! `state`.

use super::Failure;
use crate::cli::{Common, StateArgs};
use crate::exit::Exit;

/// Carries it out.
pub fn perform(_common: &Common, _args: &StateArgs) -> Result<Exit, Failure> {
    Err(Failure::general("'state' is not built yet"))
}
