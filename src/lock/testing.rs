//! What the tests examine the lock with.

#[cfg(test)]
mod documents;
#[cfg(test)]
pub(crate) mod failpoint;
pub mod fuzzing;
#[cfg(test)]
mod interleavings;
#[cfg(test)]
mod modules;
