//! `list`.

use super::Failure;
use crate::cli::{Common, ListArgs};
use crate::exit::Exit;

/// Carries it out.
pub fn perform(_common: &Common, _args: &ListArgs) -> Result<Exit, Failure> {
    Err(Failure::general("'list' is not built yet"))
}
