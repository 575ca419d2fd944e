//! The user: logging in, and what to do about a refusal.

use super::etcd_url::EtcdUrl;
use super::faults::{Fault, Said, code};
use super::gateway::Gateway;
use super::gateway_messages::Authenticate;
use super::timeouts::{Budget, Timeouts};
use crate::lock::system::printable;
use crate::lock::types::Error;
use std::sync::PoisonError;

/// Where the user stands with the servers.
pub(super) enum Login {
    /// Not logged in yet, or not any more.
    Due,
    /// The servers ask nobody who they are.
    Needless,
    /// With this token.
    Done(String),
}

/// The user from the URL, else from the environment, as etcdctl reads it: `ETCDCTL_USER` with or without a password,
/// `ETCDCTL_PASSWORD`.
pub(super) fn credentials(url: &EtcdUrl) -> Option<(String, String)> {
    let environment = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let password = || environment("ETCDCTL_PASSWORD").unwrap_or_default();
    if let Some(user) = &url.user {
        return Some((user.clone(), url.password.clone().unwrap_or_else(password)));
    }
    let user = environment("ETCDCTL_USER")?;
    Some(match user.split_once(':') {
        Some((user, password)) => (user.to_owned(), password.to_owned()),
        None => (user, password()),
    })
}

impl Gateway {
    pub(super) fn is_login_due(&self) -> bool {
        let login = self.login.lock().unwrap_or_else(PoisonError::into_inner);
        self.user.is_some() && matches!(*login, Login::Due)
    }

    /// What a request has to present.
    pub(super) fn token(&self) -> Option<String> {
        match &*self.login.lock().unwrap_or_else(PoisonError::into_inner) {
            Login::Done(token) => Some(token.clone()),
            Login::Due | Login::Needless => None,
        }
    }

    fn set_login(&self, login: Login) {
        *self.login.lock().unwrap_or_else(PoisonError::into_inner) = login;
    }

    pub(super) fn log_in(&self, timeouts: Timeouts<'_>, budget: &mut Budget) -> Result<(), Fault> {
        let Some((name, password)) = &self.user else {
            return Ok(());
        };
        self.set_login(Login::Due);
        match self.persist(&Authenticate { name, password }, timeouts, budget) {
            Ok(answer) => self.set_login(Login::Done(answer.value.token)),
            // A server without authentication asks nobody: as etcdctl sees it.
            Err(Fault::Said(said)) if said.is(code::FAILED_PRECONDITION, "not enabled") => {
                self.set_login(Login::Needless);
            }
            Err(fault) => return Err(fault),
        }
        Ok(())
    }

    /// True if it is time to log in (again): tokens last for some minutes, users and roles change, authentication is
    /// switched on.
    pub(super) fn asks_for_login(&self, said: &Said) -> bool {
        let asks = said.is(code::UNAUTHENTICATED, "")
            || said.is(code::INVALID_ARGUMENT, "user name is empty")
            || said.is(code::INVALID_ARGUMENT, "auth store is old");
        asks && self.user.is_some()
    }

    /// The fault, for callers.
    pub(super) fn error(&self, fault: Fault) -> Error {
        self.error_about(self.root(), fault)
    }

    /// The same for a request about keys that begin so.
    pub(super) fn error_about(&self, keys: &str, fault: Fault) -> Error {
        let engine = self.place().to_owned();
        match fault {
            Fault::Unreachable(what) => Error::Unreachable { engine, what },
            Fault::Said(said) => Error::Refused {
                engine,
                what: format!("{}{}", printable(&said.message), self.advice(keys, &said)),
            },
        }
    }

    /// What to do about what etcd has said.
    fn advice(&self, keys: &str, said: &Said) -> String {
        let no_password = matches!(&self.user, Some((user, password)) if !user.is_empty() && password.is_empty());
        match said.code {
            Some(code::PERMISSION_DENIED) => self.advice_on_permission(keys),
            Some(code::INVALID_ARGUMENT) if said.message.contains("user name is empty") => {
                " (give the user: etcd://USER:PASSWORD@…, or ETCDCTL_USER)".to_owned()
            }
            _ if said.message.contains("password") && no_password => {
                " (no password was given: etcd://USER:PASSWORD@…, ETCDCTL_USER=USER:PASSWORD or ETCDCTL_PASSWORD)"
                    .to_owned()
            }
            Some(code::EXHAUSTED) => " (etcd's space is used up: see 'etcdctl alarm list')".to_owned(),
            _ => String::new(),
        }
    }

    fn advice_on_permission(&self, keys: &str) -> String {
        let user = match self.user.as_ref().map_or("", |(user, _)| user) {
            // By its certificate.
            "" => "this user".to_owned(),
            user => format!("user '{}'", printable(user)),
        };
        if keys.is_empty() {
            return format!(": {user} may not read all keys: the URL has to name the prefix that it may use");
        }
        // Without a prefix, what the user may use can only begin with the lock's name.
        let granted = printable(if self.root().is_empty() { keys } else { self.root() });
        format!(
            ": {user} may not read and write '{}': etcdctl role grant-permission ROLE --prefix=true readwrite {granted} \
             (is the prefix in the URL right?)",
            printable(keys)
        )
    }
}
