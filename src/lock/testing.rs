//! What the tests look at the lock with.

#[cfg(test)]
pub(crate) mod failpoint;
pub mod fuzzing;
#[cfg(test)]
mod interleavings;
#[cfg(test)]
mod model;
#[cfg(test)]
mod modules;
