//! `completions`.

use super::Failure;
use crate::cli::CompletionsArgs;
use crate::exit::Exit;

/// Carries it out.
pub fn perform(_args: &CompletionsArgs) -> Result<Exit, Failure> {
    Err(Failure::general("'completions' is not built yet"))
}
