//! Memory for copies of a lock's objects.

use crate::lock::shm::layout::Layout;
use crate::lock::shm::semaphore_word::Count;
use crate::lock::sys::{Mapping, Shared};
use std::io;

/// Memory that is reused from one copy to the next: mapping and unmapping it costs more than reading an idle lock.
#[derive(Default)]
pub(crate) struct Memory {
    semaphore: Option<Mapping<Count>>,
    table: Option<Mapping<Layout>>,
}

impl Memory {
    /// For a copy of a semaphore.
    pub(crate) fn for_semaphore(&mut self) -> io::Result<Mapping<Count>> {
        taken(&mut self.semaphore)
    }

    /// For a copy of a table.
    pub(crate) fn for_table(&mut self) -> io::Result<Mapping<Layout>> {
        taken(&mut self.table)
    }

    /// Keeps that of a semaphore's copy.
    pub(crate) fn keep_semaphore(&mut self, used: Mapping<Count>) {
        self.semaphore = Some(used);
    }

    /// Keeps that of a table's copy.
    pub(crate) fn keep_table(&mut self, used: Mapping<Layout>) {
        self.table = Some(used);
    }
}

fn taken<T: Shared>(kept: &mut Option<Mapping<T>>) -> io::Result<Mapping<T>> {
    kept.take().map_or_else(Mapping::copy, |used| Ok(used.cleared()))
}
