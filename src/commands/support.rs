//! What several commands need: whose locks are used, which engine, the job that this program is part of, what is refused
//! and advised, what is said about a wait.

pub mod access;
pub mod advice;
pub mod ask_to_end;
pub mod backend;
pub mod cycles;
pub mod job;
pub mod own_locks;
pub mod refusals;
pub mod stopped_inside;
pub mod waiting;
