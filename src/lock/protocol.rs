//! The decisions, without I/O: the shipped code is what the model checker runs.

pub(crate) mod latch;
pub(crate) mod orderings;
pub(crate) mod queue;
pub(crate) mod staleness;
pub(crate) mod word;
