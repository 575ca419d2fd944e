//! Talking to etcd: its v3 JSON gateway, over HTTP.
//!
//! Several servers are tried in turn, beginning with the one that answered last. What is sent can be sent again: leases
//! and keys bear names that the sender has chosen, and what is deleted is named by the revision that created it. So an
//! answer that was lost costs a repetition, nothing else.

use super::attempt::Attempt;
use super::client;
use super::etcd_url::EtcdUrl;
use super::faults::{Fault, Passing, Said, ServerFault, check, is_silence, too_long};
use super::gateway_messages::{Call, Header, Status};
use super::login::{Login, credentials};
use super::timeouts::{Budget, FIRST_SHARE, Timeouts, URGENT_SHARE};
use crate::lock::engines::ANSWER_TIMEOUT;
use crate::lock::types::Result;
use serde::de::DeserializeOwned;
use std::io::{BufRead, BufReader, Read};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use ureq::Agent;

/// How many bytes an answer of a stream may have: as many as the HTTP client reads of any other answer.
const LONGEST_LINE: usize = 10 * 1024 * 1024;

/// An answer.
#[derive(Debug)]
pub(super) struct Answer<A> {
    pub(super) header: Header,
    pub(super) value: A,
    /// It was asked more than once, and an earlier time may have had effect.
    pub(super) repeated: bool,
}

/// See the module.
pub(super) struct Gateway {
    agent: Agent,
    servers: Vec<Server>,
    /// The server that answered first, and the cluster that it belongs to.
    cluster: Mutex<Option<(usize, String)>>,
    /// Index of the server that answered last.
    last: AtomicUsize,
    pub(super) user: Option<(String, String)>,
    pub(super) login: Mutex<Login>,
    place: String,
    /// What all keys begin with: the prefix and a slash; or nothing.
    root: String,
    pub(super) tls: bool,
}

struct Server {
    /// `host:port`.
    host: String,
    /// The beginning of its URLs.
    base: String,
}

impl Gateway {
    pub(super) fn new(url: &EtcdUrl) -> Result<Self> {
        let scheme = if url.tls { "https" } else { "http" };
        let server = |host: &String| Server {
            host: host.clone(),
            base: format!("{scheme}://{host}/v3/"),
        };
        Ok(Self {
            agent: client::agent(client::settings(url.tls)?),
            servers: url.servers.iter().map(server).collect(),
            cluster: Mutex::new(None),
            last: AtomicUsize::new(0),
            user: credentials(url),
            login: Mutex::new(Login::Due),
            place: format!("etcd at {}", url.servers.join(",")),
            root: match url.prefix.as_str() {
                "" => String::new(),
                prefix => format!("{prefix}/"),
            },
            tls: url.tls,
        })
    }

    /// Where it is, for people.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// What all keys begin with.
    pub(super) fn root(&self) -> &str {
        &self.root
    }

    /// True if a request may be sent before the one that it depends on is answered. A second connection costs next to nothing
    /// if nothing is encrypted and nobody has to log in. And there must be one server only: of several, one that hangs could
    /// carry out both long after another one has answered them.
    pub(super) fn may_overlap(&self) -> bool {
        !self.tls && self.user.is_none() && self.servers.len() == 1
    }

    /// Asks. Blocks as long as `timeouts` says, by default for 4 seconds at most.
    pub(super) fn call<'a, C: Call>(
        &self,
        call: &C,
        timeouts: impl Into<Timeouts<'a>>,
    ) -> Result<Answer<C::Answer>, Fault> {
        let timeouts = timeouts.into();
        let mut budget = Budget::new(timeouts.limit);
        if self.is_login_due() {
            self.log_in(timeouts, &mut budget)?;
        }
        match self.persist(call, timeouts, &mut budget) {
            Err(Fault::Said(said)) if self.asks_for_login(&said) => {
                self.log_in(timeouts, &mut budget)?;
                self.persist(call, timeouts, &mut budget)
            }
            answer => answer,
        }
    }

    /// Asks until there is an answer, or time is up, without logging in.
    pub(super) fn persist<C: Call>(
        &self,
        call: &C,
        timeouts: Timeouts<'_>,
        budget: &mut Budget,
    ) -> Result<Answer<C::Answer>, Fault> {
        let body = body(call);
        let reply = Attempt::new(self, C::PATH, &body, timeouts, budget).until_answered()?;
        Ok(Answer {
            value: read(&reply.text)?,
            header: reply.header,
            repeated: reply.repeated,
        })
    }

    /// The servers, by their indices, in the order in which they are to be asked.
    pub(super) fn in_turn(&self) -> impl Iterator<Item = usize> + use<> {
        let first = self.last.load(Ordering::Relaxed);
        let count = self.servers.len();
        (first..first + count).map(move |i| i % count)
    }

    pub(super) fn servers(&self) -> usize {
        self.servers.len()
    }

    pub(super) fn host(&self, i: usize) -> &str {
        self.servers.get(i).map_or("", |server| &server.host)
    }

    /// Asks one server once: the text of its answer, and its header.
    pub(super) fn ask(
        &self,
        i: usize,
        path: &str,
        body: &str,
        time: Duration,
    ) -> Result<(String, Header), ServerFault> {
        let request = self.request(&self.agent, i, path).config();
        let request = request.timeout_global(Some(time.max(Duration::from_millis(1)))).build();
        let mut answer = request.send(body.as_bytes())?;
        let status = answer.status().as_u16();
        let text = answer.body_mut().read_to_string()?;
        let header = check(status, &text)?;
        let header = header.ok_or_else(|| Said::of_it("it is no etcd: its answer has no header"))?;
        Ok((text, header))
    }

    /// From now on this server is asked first.
    pub(super) fn prefer(&self, i: usize) {
        self.last.store(i, Ordering::Relaxed);
    }

    /// The servers of one URL have to be one cluster.
    pub(super) fn compare(&self, i: usize, header: &Header) -> Result<(), Said> {
        let mut known = self.cluster.lock().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Some((first, cluster)) if *first != i && header.cluster_id != *cluster => {
                let [one, other] = [*first, i].map(|i| self.host(i));
                Err(Said::of_it(format!(
                    "{one} and {other} are different clusters: two could have the lock at once"
                )))
            }
            Some((first, _)) if *first != i => Ok(()),
            _ => {
                *known = Some((i, header.cluster_id.clone()));
                Ok(())
            }
        }
    }

    /// Asks a server which cluster it is of, unless it is the one that answered first. If it does not answer, it is taken
    /// for one of the same.
    pub(super) fn meet(&self, i: usize) -> Result<(), Said> {
        let known = self.cluster.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if known.is_none_or(|(first, _)| first == i) {
            return Ok(());
        }
        match self.ask(i, Status::PATH, &body(&Status {}), URGENT_SHARE) {
            Ok((_, header)) => self.compare(i, &header),
            Err(_) => Ok(()),
        }
    }

    /// What each server answers but the one that answered last, asked once and not for long. Who does not answer, or
    /// refuses, is left out.
    pub(super) fn ask_others<C: Call>(&self, call: &C) -> Vec<(&str, C::Answer)> {
        let body = body(call);
        let ask = |i: usize| {
            let (text, _) = self.ask(i, C::PATH, &body, FIRST_SHARE).ok()?;
            Some((self.host(i), read(&text).ok()?))
        };
        self.in_turn().skip(1).filter_map(ask).collect()
    }

    fn request(&self, agent: &Agent, i: usize, path: &str) -> ureq::RequestBuilder<ureq::typestate::WithBody> {
        let base = self.servers.get(i).map_or("", |server| &server.base);
        let request = agent.post(format!("{base}{path}")).content_type("application/json");
        match self.token() {
            Some(token) => request.header("Authorization", token),
            None => request,
        }
    }

    /// Opens a stream of answers. `agent` makes its connection, so that shutting that one down ends the stream. Reading
    /// fails when nothing has come for `idle`.
    pub(super) fn stream<C: Call>(&self, agent: &Agent, call: &C, idle: Duration) -> Result<Stream<C::Answer>, Fault> {
        let body = body(call);
        let mut reason = String::new();
        for i in self.in_turn() {
            match self.open_stream(agent, i, C::PATH, &body, idle) {
                Ok(stream) => return Ok(stream),
                Err(ServerFault::Said(said)) => return Err(said.into()),
                Err(ServerFault::Passing(passing)) => reason = passing.reason,
            }
        }
        Err(Fault::Unreachable(reason))
    }

    fn open_stream<A>(
        &self,
        agent: &Agent,
        i: usize,
        path: &str,
        body: &str,
        idle: Duration,
    ) -> Result<Stream<A>, ServerFault> {
        let request = self.request(agent, i, path).config();
        let request = request
            .timeout_connect(Some(FIRST_SHARE))
            .timeout_recv_response(Some(ANSWER_TIMEOUT))
            .timeout_per_read(Some(idle))
            .build();
        let mut answer = request.send(body.as_bytes())?;
        if answer.status().is_success() {
            return Ok(Stream(BufReader::new(answer.into_body().into_reader()), PhantomData));
        }
        let status = answer.status().as_u16();
        let text = answer.body_mut().read_to_string().unwrap_or_default();
        check(status, &text)?;
        Err(ServerFault::Passing(Passing {
            reason: format!("HTTP status {status}"),
            ..Passing::default()
        }))
    }

    /// An agent of one's own, for a stream.
    pub(super) fn stream_agent(&self) -> Agent {
        // The same settings, other connections.
        client::agent(self.agent.config().clone())
    }
}

fn body<C: Call>(call: &C) -> String {
    serde_json::to_string(call).unwrap_or_default()
}

fn read<A: DeserializeOwned>(text: &str) -> Result<A, Said> {
    serde_json::from_str(text).map_err(|error| Said::of_it(format!("it is no etcd: its answer is none: {error}")))
}

/// A stream of answers, one a line.
pub(super) struct Stream<A>(BufReader<ureq::BodyReader<'static>>, PhantomData<A>);

impl<A: DeserializeOwned> Stream<A> {
    /// The next answer. `Ok(None)`: nothing came for the idle time.
    pub(super) fn next(&mut self) -> Result<Option<A>, Fault> {
        let mut line = Vec::new();
        match (&mut self.0).take(LONGEST_LINE as u64).read_until(b'\n', &mut line) {
            Ok(0) => Err(Fault::Unreachable("the connection was closed".to_owned())),
            Ok(LONGEST_LINE) => Err(too_long(LONGEST_LINE as u64).into()),
            Ok(_) => {
                let line = String::from_utf8_lossy(&line);
                match check(200, &line) {
                    Ok(_) => Ok(Some(read(&line)?)),
                    Err(ServerFault::Said(said)) => Err(said.into()),
                    Err(ServerFault::Passing(passing)) => Err(Fault::Unreachable(passing.reason)),
                }
            }
            Err(e) if is_silence(&e) => Ok(None),
            Err(e) => Err(Fault::Unreachable(e.to_string())),
        }
    }
}
