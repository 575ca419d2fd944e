//! Talking to etcd: its v3 JSON gateway, over HTTP.
//!
//! Several servers are tried in turn, beginning with the one that answered last. What is sent can be sent again: leases
//! and keys bear names that the sender has chosen, and what is deleted is named by the revision that created it. So an
//! answer that was lost costs a repetition, nothing else.

use super::answer::{Fault, HUNG_UP, Stream, Try, check, code, failed};
use super::client;
use super::etcd_url::EtcdUrl;
use super::patience::{Budget, Contact, LEAST, PAUSE, Patience, URGENT};
use crate::lock::engines::ANSWER_TIMEOUT;
use crate::lock::system::printable;
use crate::{Error, Result};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use ureq::Agent;

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) value: Value,
    /// It was asked more than once, and an earlier time may have had effect.
    pub(crate) repeated: bool,
}

/// See the module.
pub(crate) struct Gateway {
    agent: Agent,
    bases: Vec<String>,
    /// `host:port` each, in the same order.
    hosts: Vec<String>,
    /// The server that answered first, and the cluster that it belongs to.
    cluster: Mutex<Option<(usize, String)>>,
    /// Index of the server that answered last.
    last: AtomicUsize,
    user: Option<(String, String)>,
    login: Mutex<Login>,
    place: String,
    /// What all keys begin with: the prefix and a slash; or nothing.
    root: String,
    tls: bool,
}

/// Where the user stands with the servers.
#[derive(Clone)]
enum Login {
    /// Not logged in yet, or not any more.
    Due,
    /// The servers ask nobody who they are.
    Needless,
    /// With this token.
    Done(String),
}

impl Gateway {
    pub(crate) fn new(url: &EtcdUrl) -> Result<Self> {
        let scheme = if url.tls { "https" } else { "http" };
        let place = format!("etcd at {}", url.servers.join(","));
        Ok(Self {
            agent: client::agent(client::settings(url.tls)?),
            bases: url
                .servers
                .iter()
                .map(|server| format!("{scheme}://{server}/v3/"))
                .collect(),
            hosts: url.servers.clone(),
            cluster: Mutex::new(None),
            last: AtomicUsize::new(0),
            user: credentials(url),
            login: Mutex::new(Login::Due),
            place,
            root: match url.prefix.as_str() {
                "" => String::new(),
                prefix => format!("{prefix}/"),
            },
            tls: url.tls,
        })
    }

    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// What all keys begin with.
    pub(crate) fn root(&self) -> &str {
        &self.root
    }

    /// The fault, for callers.
    pub(crate) fn error(&self, fault: Fault) -> Error {
        self.error_about(&self.root, fault)
    }

    /// The same for a request about keys that begin so.
    pub(crate) fn error_about(&self, keys: &str, fault: Fault) -> Error {
        let engine = self.place.clone();
        match fault {
            Fault::Unreachable(what) => Error::Unreachable { engine, what },
            Fault::Said { code, message } => {
                let advice = self.advice(keys, code, &message);
                let what = format!("{}{advice}", printable(&message));
                Error::Refused { engine, what }
            }
        }
    }

    /// What to do about what etcd has said.
    fn advice(&self, keys: &str, code: i64, message: &str) -> String {
        let (user, password) = self.user.as_ref().map_or(("", ""), |(user, password)| (user, password));
        match code {
            code::PERMISSION_DENIED => {
                let user = match user {
                    // By its certificate.
                    "" => "this user".to_owned(),
                    user => format!("user '{}'", printable(user)),
                };
                if keys.is_empty() {
                    return format!(": {user} may not read all keys: the URL has to name the prefix that it may use");
                }
                // Without a prefix, what the user may use can only begin with the lock's name.
                let granted = printable(if self.root.is_empty() { keys } else { &self.root });
                format!(
                    ": {user} may not read and write '{}': etcdctl role grant-permission ROLE --prefix=true \
                     readwrite {granted} (is the prefix in the URL right?)",
                    printable(keys)
                )
            }
            code::INVALID_ARGUMENT if message.contains("user name is empty") => {
                " (give the user: etcd://USER:PASSWORD@…, or ETCDCTL_USER)".to_owned()
            }
            _ if message.contains("password") && !user.is_empty() && password.is_empty() => {
                " (no password was given: etcd://USER:PASSWORD@…, ETCDCTL_USER=USER:PASSWORD or ETCDCTL_PASSWORD)"
                    .to_owned()
            }
            code::EXHAUSTED => " (etcd's space is used up: see 'etcdctl alarm list')".to_owned(),
            _ => String::new(),
        }
    }

    /// Asks; blocks as long as is said, by default for 4 seconds at most.
    pub(crate) fn call<'a>(
        &self,
        path: &str,
        body: &Value,
        patience: impl Into<Patience<'a>>,
    ) -> Result<Answer, Fault> {
        let patience = patience.into();
        let mut budget = Budget::new(patience.time);
        if self.user.is_some() && matches!(self.login(), Login::Due) {
            self.log_in(&mut budget, patience)?;
        }
        match self.persist(path, body, patience, &mut budget) {
            Err(fault) if self.asks_for_login(&fault) => {
                self.log_in(&mut budget, patience)?;
                self.persist(path, body, patience, &mut budget)
            }
            result => result,
        }
    }

    /// Whether to log in (again): tokens last for some minutes, users and roles change, authentication is switched on.
    pub(crate) fn asks_for_login(&self, fault: &Fault) -> bool {
        let Fault::Said { code, message } = fault else {
            return false;
        };
        let asks = match *code {
            code::UNAUTHENTICATED => true,
            code::INVALID_ARGUMENT => ["user name is empty", "auth store is old"]
                .iter()
                .any(|what| message.contains(what)),
            _ => false,
        };
        asks && self.user.is_some()
    }

    fn persist(&self, path: &str, body: &Value, patience: Patience<'_>, budget: &mut Budget) -> Result<Answer, Fault> {
        let first = self.last.load(Ordering::Relaxed);
        let count = self.bases.len();
        let mut repeated = false;
        let mut share = patience.share(count);
        loop {
            let mut nobody_listens = true;
            let mut for_good = true;
            let mut reason = String::new();
            for i in (first..first + count).map(|i| i % count) {
                if patience.is_over() {
                    return Err(Fault::Unreachable("the answer is not waited for any more".to_owned()));
                }
                let time = budget.left(Duration::ZERO).min(share);
                let asked = self
                    .ask(i, path, body, time)
                    .and_then(|value| self.compare(i, &value).map(|()| value));
                budget.left(time);
                match asked {
                    Ok(value) => {
                        self.last.store(i, Ordering::Relaxed);
                        log::debug!("{}{path}: answered", self.bases.get(i).map_or("", String::as_str));
                        return Ok(Answer { value, repeated });
                    }
                    Err(Try::Said { code, message }) => {
                        // What is said does not tell which cluster it is of: another one does not know our leases.
                        if let Err(Try::Said { code, message }) = self.meet(i) {
                            return Err(Fault::Said { code, message });
                        }
                        return Err(Fault::Said { code, message });
                    }
                    Err(Try::Again { nobody, disagree, what }) => {
                        log::debug!("{}: {what}", self.bases.get(i).map_or("", String::as_str));
                        nobody_listens &= nobody;
                        for_good &= disagree;
                        repeated |= !nobody;
                        reason = what;
                    }
                }
            }
            let give_up = patience.contact == Contact::First && nobody_listens;
            if give_up || budget.left(Duration::ZERO) <= PAUSE {
                return Err(if for_good {
                    Fault::Said {
                        code: 0,
                        message: reason,
                    }
                } else {
                    Fault::Unreachable(self.with_advice(reason, patience.contact))
                });
            }
            std::thread::sleep(PAUSE);
            budget.left(PAUSE);
            share *= 2;
        }
    }

    /// Why nobody was reached. What hangs up at the first contact is perhaps another kind of server.
    fn with_advice(&self, reason: String, contact: Contact) -> String {
        if contact != Contact::First || reason != HUNG_UP {
            reason
        } else if self.tls {
            format!("{reason} where TLS begins: if it does not speak TLS, write etcd://")
        } else {
            format!("{reason}: does it want TLS (etcds://)? is it etcd's client port (2379)?")
        }
    }

    /// Asks one server once.
    fn ask(&self, i: usize, path: &str, body: &Value, time: Duration) -> Result<Value, Try> {
        let time = time.max(Duration::from_millis(1));
        let request = self.request(&self.agent, i, path);
        let answer = request
            .config()
            .timeout_global(Some(time))
            .build()
            .send(body.to_string().as_bytes());
        let mut answer = answer.map_err(failed)?;
        let status = answer.status().as_u16();
        let text = answer.body_mut().read_to_string().map_err(failed)?;
        let value: Value = serde_json::from_str(&text).unwrap_or_default();
        check(status, &value, &text)?;
        Ok(value)
    }

    /// The servers of one URL have to be one cluster.
    fn compare(&self, i: usize, value: &Value) -> Result<(), Try> {
        let header = [&value["header"], &value["result"]["header"]];
        let said = |message| Err(Try::Said { code: 0, message });
        let Some(header) = header.into_iter().find(|header| header.is_object()) else {
            return said("it is no etcd: its answer has no header".to_owned());
        };
        let cluster = header["cluster_id"].as_str().unwrap_or_default();
        let mut known = self.cluster.lock().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Some((first, of)) if *first != i && of != cluster => {
                let [one, other] = [*first, i].map(|i| self.host(i));
                said(format!(
                    "{one} and {other} are different clusters: two could have the lock at once"
                ))
            }
            Some((first, _)) if *first != i => Ok(()),
            _ => {
                *known = Some((i, cluster.to_owned()));
                Ok(())
            }
        }
    }

    /// Asks a server which cluster it is of, unless it is the one that answered first. No answer will do.
    fn meet(&self, i: usize) -> Result<(), Try> {
        let known = self.cluster.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if known.is_none_or(|(first, _)| first == i) {
            return Ok(());
        }
        let status = self.ask(i, "maintenance/status", &json!({}), URGENT);
        status.map_or(Ok(()), |status| self.compare(i, &status))
    }

    fn host(&self, i: usize) -> &str {
        self.hosts.get(i).map_or("", String::as_str)
    }

    /// What each server answers but the one that answered last, asked once and not for long. Who does not answer, or
    /// refuses, is left out.
    pub(crate) fn ask_others(&self, path: &str, body: &Value) -> Vec<(&str, Value)> {
        let last = self.last.load(Ordering::Relaxed);
        let others = (0..self.bases.len()).filter(|i| *i != last);
        let answers = others.map(|i| (self.host(i), self.ask(i, path, body, LEAST)));
        answers
            .filter_map(|(host, answer)| Some((host, answer.ok()?)))
            .collect()
    }

    fn request(&self, agent: &Agent, i: usize, path: &str) -> ureq::RequestBuilder<ureq::typestate::WithBody> {
        let base = self.bases.get(i).map_or("", String::as_str);
        let request = agent.post(format!("{base}{path}")).content_type("application/json");
        match self.login() {
            Login::Done(token) => request.header("Authorization", token),
            Login::Due | Login::Needless => request,
        }
    }

    fn login(&self) -> Login {
        self.login.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_login(&self, login: Login) {
        *self.login.lock().unwrap_or_else(PoisonError::into_inner) = login;
    }

    fn log_in(&self, budget: &mut Budget, patience: Patience<'_>) -> Result<(), Fault> {
        let Some((name, password)) = &self.user else {
            return Ok(());
        };
        self.set_login(Login::Due);
        let body = json!({"name": name, "password": password});
        match self.persist("auth/authenticate", &body, patience, budget) {
            Ok(answer) => {
                let token = answer.value["token"].as_str().unwrap_or_default().to_owned();
                self.set_login(Login::Done(token));
                Ok(())
            }
            // A server without authentication asks nobody: as etcdctl sees it.
            Err(Fault::Said { code, message })
                if code == code::FAILED_PRECONDITION && message.contains("not enabled") =>
            {
                self.set_login(Login::Needless);
                Ok(())
            }
            Err(fault) => Err(fault),
        }
    }

    /// Opens a stream of answers. `agent` makes its connection, so that shutting that one down ends the stream. Reading
    /// fails when nothing has come for `idle`.
    pub(crate) fn stream(&self, agent: &Agent, path: &str, body: &Value, idle: Duration) -> Result<Stream, Fault> {
        let first = self.last.load(Ordering::Relaxed);
        let count = self.bases.len();
        let mut reason = String::new();
        for i in (first..first + count).map(|i| i % count) {
            let request = self.request(agent, i, path).config();
            let request = request
                .timeout_connect(Some(LEAST))
                .timeout_recv_response(Some(ANSWER_TIMEOUT))
                .timeout_per_read(Some(idle))
                .build();
            match request.send(body.to_string().as_bytes()).map_err(failed) {
                Ok(answer) if answer.status().is_success() => {
                    return Ok(Stream::new(answer.into_body()));
                }
                Ok(mut answer) => {
                    let status = answer.status().as_u16();
                    let text = answer.body_mut().read_to_string().unwrap_or_default();
                    let value: Value = serde_json::from_str(&text).unwrap_or_default();
                    match check(status, &value, &text) {
                        Err(Try::Said { code, message }) => return Err(Fault::Said { code, message }),
                        Err(Try::Again { what, .. }) => reason = what,
                        Ok(()) => reason = format!("HTTP status {status}"),
                    }
                }
                Err(Try::Again { what, .. }) => reason = what,
                Err(Try::Said { code, message }) => return Err(Fault::Said { code, message }),
            }
        }
        Err(Fault::Unreachable(reason))
    }

    /// An agent of one's own, for a stream.
    pub(crate) fn stream_agent(&self) -> Agent {
        // The same settings, other connections.
        client::agent(self.agent.config().clone())
    }
}

/// The user from the URL, else from the environment, as etcdctl reads it: `ETCDCTL_USER` with or without a password,
/// `ETCDCTL_PASSWORD`.
fn credentials(url: &EtcdUrl) -> Option<(String, String)> {
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
