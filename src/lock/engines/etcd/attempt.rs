//! One request to several servers, asked again until it is answered or given up.

use super::faults::{Fault, HUNG_UP, Said, ServerFault};
use super::gateway::Gateway;
use super::gateway_messages::Header;
use super::timeouts::{Budget, Contact, PAUSE, Timeouts};
use std::time::Duration;

/// See the module.
pub(super) struct Attempt<'a> {
    gateway: &'a Gateway,
    path: &'a str,
    body: &'a str,
    timeouts: Timeouts<'a>,
    budget: &'a mut Budget,
    /// How long one server is given.
    share: Duration,
    /// It may have arrived somewhere, unanswered.
    repeated: bool,
    /// Why it was not answered last.
    reason: String,
}

/// What was answered.
pub(super) struct Reply {
    pub(super) text: String,
    pub(super) header: Header,
    /// The request had been sent before, and may have had effect then.
    pub(super) repeated: bool,
}

/// What asking all servers once has come to.
enum Round {
    Answered(Reply),
    /// Nobody has answered, as all of them have not heard it, or are incompatible, or for several reasons.
    InVain {
        unheard: bool,
        incompatible: bool,
    },
}

impl<'a> Attempt<'a> {
    pub(super) fn new(
        gateway: &'a Gateway,
        path: &'a str,
        body: &'a str,
        timeouts: Timeouts<'a>,
        budget: &'a mut Budget,
    ) -> Self {
        Self {
            share: timeouts.share(gateway.servers()),
            gateway,
            path,
            body,
            timeouts,
            budget,
            repeated: false,
            reason: String::new(),
        }
    }

    pub(super) fn until_answered(mut self) -> Result<Reply, Fault> {
        loop {
            let (unheard, incompatible) = match self.round()? {
                Round::Answered(reply) => return Ok(reply),
                Round::InVain { unheard, incompatible } => (unheard, incompatible),
            };
            let nothing_at_stake = self.timeouts.contact == Contact::First && unheard;
            if nothing_at_stake || self.budget.left(Duration::ZERO) <= PAUSE {
                return Err(if incompatible {
                    Said::of_it(self.reason).into()
                } else {
                    Fault::Unreachable(self.with_advice())
                });
            }
            std::thread::sleep(PAUSE);
            self.budget.left(PAUSE);
            self.share *= 2;
        }
    }

    /// Asks one server after the other.
    fn round(&mut self) -> Result<Round, Fault> {
        let (mut unheard, mut incompatible) = (true, true);
        for i in self.gateway.in_turn() {
            if self.timeouts.is_cancelled() {
                return Err(Fault::Unreachable("the answer is not waited for any more".to_owned()));
            }
            let time = self.budget.left(Duration::ZERO).min(self.share);
            let asked = self.gateway.ask(i, self.path, self.body, time);
            let asked = asked.and_then(|(text, header)| {
                self.gateway.compare(i, &header)?;
                Ok((text, header))
            });
            self.budget.left(time);
            match asked {
                Ok((text, header)) => {
                    self.gateway.prefer(i);
                    log::debug!("{}: {}: answered", self.gateway.host(i), self.path);
                    let repeated = self.repeated;
                    return Ok(Round::Answered(Reply { text, header, repeated }));
                }
                // Words do not tell which cluster they are of: another one does not know our leases.
                Err(ServerFault::Said(said)) => return Err(self.gateway.meet(i).err().unwrap_or(said).into()),
                Err(ServerFault::Passing(passing)) => {
                    log::debug!("{}: {}", self.gateway.host(i), passing.reason);
                    self.repeated |= !passing.unheard;
                    unheard &= passing.unheard;
                    incompatible &= passing.incompatible;
                    // A server that had no time says nothing new.
                    if !(passing.timeout && time < self.share) || self.reason.is_empty() {
                        self.reason = passing.reason;
                    }
                }
            }
        }
        Ok(Round::InVain { unheard, incompatible })
    }

    /// Why nobody was reached. What hangs up at the first contact is perhaps another kind of server.
    fn with_advice(self) -> String {
        let reason = self.reason;
        if self.timeouts.contact != Contact::First || reason != HUNG_UP {
            reason
        } else if self.gateway.tls {
            format!("{reason} where TLS begins: if it does not speak TLS, write etcd://")
        } else {
            format!("{reason}: does it want TLS (etcds://)? is it etcd's client port (2379)?")
        }
    }
}
