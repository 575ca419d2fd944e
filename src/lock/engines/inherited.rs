//! An engine on other machines, and a lock that is followed there, in the child of a fork: the connections are the
//! parent's.

use super::{Capabilities, DetachedHold, Engine, Guard, Listing, Sealed, Watch, follow::Follow};
use crate::lock::inspect::Change;
use crate::lock::sys::{Inherited, OfThisProcess};
use crate::lock::types::{
    Cancel, Detached, Error, GetOptions, HistoryRecord, LastDone, LockName, Result, State, UngetOptions,
};

impl From<Inherited> for Error {
    fn from(_: Inherited) -> Self {
        Self::Forked
    }
}

impl Sealed for OfThisProcess<Box<dyn Engine>> {}

impl Engine for OfThisProcess<Box<dyn Engine>> {
    fn kind(&self) -> &'static str {
        self.as_it_is().kind()
    }

    fn place(&self) -> String {
        self.as_it_is().place()
    }

    fn capabilities(&self) -> Capabilities {
        self.as_it_is().capabilities()
    }

    fn acquire(&self, name: &LockName, options: &GetOptions<'_>) -> Result<Option<Guard>> {
        self.get()?.acquire(name, options)
    }

    fn acquire_detached(
        &self,
        name: &LockName,
        options: &GetOptions<'_>,
        detached: Detached,
    ) -> Result<Option<DetachedHold>> {
        self.get()?.acquire_detached(name, options, detached)
    }

    fn state(&self, name: &LockName, cancel: &Cancel) -> Result<Option<State>> {
        self.get()?.state(name, cancel)
    }

    fn peek(&self, name: &LockName) -> Result<Option<State>> {
        self.get()?.peek(name)
    }

    fn report_death(&self, name: &LockName) -> bool {
        self.get().map_or(true, |engine| engine.report_death(name))
    }

    fn is_held(&self, name: &LockName, token: u64) -> Result<bool> {
        self.get()?.is_held(name, token)
    }

    fn check_trust(&self, name: &LockName) -> Result<()> {
        self.get()?.check_trust(name)
    }

    fn list(&self) -> Result<Listing> {
        self.get()?.list()
    }

    fn history(&self, name: &LockName) -> Result<Option<Vec<HistoryRecord>>> {
        self.get()?.history(name)
    }

    fn last_done(&self, name: &LockName, cancel: &Cancel) -> Result<Option<LastDone>> {
        self.get()?.last_done(name, cancel)
    }

    fn count_skip(&self, name: &LockName, cancel: &Cancel) -> Result<u64> {
        self.get()?.count_skip(name, cancel)
    }

    fn watch(&self, name: &LockName, cancel: &Cancel) -> Result<Watch> {
        let watch = self.get()?.watch(name, cancel)?;
        Ok(Watch::new(OfThisProcess::new(watch)))
    }

    fn break_hold(&self, name: &LockName, target: UngetOptions<'_>) -> Result<bool> {
        self.get()?.break_hold(name, target)
    }
}

impl Follow for OfThisProcess<Watch> {
    fn next(&mut self, cancel: &Cancel) -> Result<Option<Change>> {
        self.get_mut()?.next(cancel)
    }
}
