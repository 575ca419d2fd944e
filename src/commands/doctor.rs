//! `doctor`.

use super::Failure;
use crate::cli::{Common, DoctorArgs};
use crate::exit::Exit;

/// Carries it out.
pub fn perform(_common: &Common, _args: &DoctorArgs) -> Result<Exit, Failure> {
    Err(Failure::general("'doctor' is not built yet"))
}
