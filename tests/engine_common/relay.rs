//! A connection to a server that a test can disturb: it relays bytes both ways until told otherwise.

use super::wait_until;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

/// Listens on its own port until this program exits.
pub struct Relay {
    port: u16,
    orders: Arc<Orders>,
}

#[derive(Default)]
struct Orders {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    rules: Vec<Rule>,
    swallowed: bool,
    held: bool,
    /// Requests for the second path wait until one for the first has been answered.
    order: Option<(&'static str, &'static str)>,
    /// So many answers are passed on so much later.
    late: (usize, Duration),
    /// The paths requested, in order, each with the client's end of the connection.
    seen: Vec<(String, TcpStream)>,
}

/// What happens to requests for a path.
struct Rule {
    path: &'static str,
    /// How many requests are still spared.
    skip: usize,
    /// True if it happens once; otherwise it happens to all requests from there on.
    once: bool,
    fate: Fate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// The answer is swallowed, and the connection closed.
    Swallow,
    /// The request is held back; the connection stays open.
    Hold,
    /// The server hears nothing; a page says that something has failed.
    Fail,
    /// The server hears nothing; the answer is one line without an end.
    Flood,
}

impl State {
    /// True if this happens to a request for `path` that has just arrived.
    fn happens(&mut self, path: &str, fate: Fate) -> bool {
        let Some(at) = self
            .rules
            .iter()
            .position(|rule| rule.path == path && rule.fate == fate)
        else {
            return false;
        };
        let rule = &mut self.rules[at];
        if rule.skip > 0 {
            rule.skip -= 1;
            return false;
        }
        if rule.once {
            self.rules.remove(at);
        }
        true
    }
}

impl Relay {
    /// Starts a relay to `host:port`.
    pub fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = listener.local_addr().expect("it has an address").port();
        let orders = Arc::new(Orders::default());
        let (server, shared) = (server.to_owned(), orders.clone());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // If the server is gone, the client finds its connection closed.
                if let Ok(upstream) = TcpStream::connect(&server) {
                    connect(&client, &upstream, &shared);
                }
            }
        });
        Self { port, orders }
    }

    pub fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn rule(&self, rule: Rule) {
        let mut state = self.orders.state.lock().expect("no panic");
        match rule.fate {
            Fate::Swallow => state.swallowed = false,
            Fate::Hold => state.held = false,
            Fate::Fail | Fate::Flood => {}
        }
        state.rules.push(rule);
    }

    /// The server gets the next request for `path` and answers, but the answer gets lost.
    pub fn swallow_answer(&self, path: &'static str) {
        self.swallow_answer_after(path, 0);
    }

    /// The same for the request after the next `skip` ones.
    pub fn swallow_answer_after(&self, path: &'static str, skip: usize) {
        let (once, fate) = (true, Fate::Swallow);
        self.rule(Rule { path, skip, once, fate });
    }

    /// Waits until that has happened.
    pub fn wait_swallowed(&self) {
        wait_until("an answer is swallowed", || {
            self.orders.state.lock().expect("no panic").swallowed
        });
    }

    /// Passes on requests for the path `second` only once the server has answered one for `first`, or
    /// [`let_go`](Self::let_go) is called.
    pub fn put_in_order(&self, first: &'static str, second: &'static str) {
        self.orders.state.lock().expect("no panic").order = Some((first, second));
    }

    /// The next request for `path` is held back until [`let_go`](Self::let_go).
    pub fn hold(&self, path: &'static str) {
        let (skip, once, fate) = (0, true, Fate::Hold);
        self.rule(Rule { path, skip, once, fate });
    }

    /// The same for all requests for `path` after the next `skip` ones.
    pub fn hold_all_after(&self, path: &'static str, skip: usize) {
        let (once, fate) = (false, Fate::Hold);
        self.rule(Rule { path, skip, once, fate });
    }

    /// All requests for `path` after the next `skip` ones are answered by a page that says that something has failed.
    pub fn fail_all_after(&self, path: &'static str, skip: usize) {
        let (once, fate) = (false, Fate::Fail);
        self.rule(Rule { path, skip, once, fate });
    }

    /// Requests for `path` are answered by one line without an end.
    pub fn flood(&self, path: &'static str) {
        let (skip, once, fate) = (0, false, Fate::Flood);
        self.rule(Rule { path, skip, once, fate });
    }

    pub fn wait_held(&self) {
        wait_until("a request is held back", || {
            self.orders.state.lock().expect("no panic").held
        });
    }

    /// Passes on what was held back, and holds back no more.
    pub fn let_go(&self) {
        let mut state = self.orders.state.lock().expect("no panic");
        state.rules.retain(|rule| rule.fate != Fate::Hold);
        state.held = false;
        state.order = None;
        drop(state);
        self.orders.changed.notify_all();
    }

    /// The next `count` answers, to whatever was asked, come so much later.
    pub fn delay_answers(&self, count: usize, by: Duration) {
        self.orders.state.lock().expect("no panic").late = (count, by);
    }

    /// Waits until `path` has been requested `count` times.
    pub fn wait_seen(&self, path: &str, count: usize) {
        wait_until("it has been requested", || self.times_seen(path) >= count);
    }

    /// How often `path` has been requested.
    pub fn times_seen(&self, path: &str) -> usize {
        let state = self.orders.state.lock().expect("no panic");
        state.seen.iter().filter(|(seen, _)| seen == path).count()
    }

    /// Closes the connections on which `path` was requested.
    pub fn cut(&self, path: &str) {
        let state = self.orders.state.lock().expect("no panic");
        for (_, client) in state.seen.iter().filter(|(seen, _)| seen == path) {
            let _ = client.shutdown(Shutdown::Both);
        }
    }
}

fn connect(client: &TcpStream, upstream: &TcpStream, orders: &Arc<Orders>) {
    let swallow = Arc::new(Mutex::new(false));
    let last = Arc::new(Mutex::new(String::new()));
    let copy = |stream: &TcpStream| stream.try_clone().expect("a copy");
    let ends = || [copy(client), copy(upstream)];
    let (answers, asked) = (orders.clone(), last.clone());
    let ([mut from, mut to], orders, fate) = (ends(), orders.clone(), swallow.clone());
    let (back, asking) = (ends(), copy(client));
    thread::spawn(move || {
        pump(&mut from, &mut to, |request| {
            let head = String::from_utf8_lossy(request);
            let Some((path, _)) = head.strip_prefix("POST /v3/").and_then(|head| head.split_once(' ')) else {
                return true;
            };
            let mut state = orders.state.lock().expect("no panic");
            state.seen.push((path.to_owned(), copy(&asking)));
            path.clone_into(&mut asked.lock().expect("no panic"));
            let is_second = |state: &State| state.order.is_some_and(|(_, second)| second == path);
            let going = orders.changed.wait_while(state, |state| is_second(state));
            let mut state = going.expect("no panic");
            let swallowed = state.happens(path, Fate::Swallow);
            if state.happens(path, Fate::Hold) {
                state.held = true;
                let going = orders.changed.wait_while(state, |state| state.held);
                state = going.expect("no panic");
            }
            for fate in [Fate::Fail, Fate::Flood] {
                if state.happens(path, fate) {
                    drop(state);
                    answer_instead(&asking, fate);
                    return false;
                }
            }
            if swallowed {
                *fate.lock().expect("no panic") = true;
                state.swallowed = true;
            }
            true
        });
    });
    let [mut to, mut from] = back;
    thread::spawn(move || {
        pump(&mut from, &mut to, |_| {
            let path = last.lock().expect("no panic").clone();
            let mut state = answers.state.lock().expect("no panic");
            if state.order.is_some_and(|(first, _)| first == path) {
                state.order = None;
                answers.changed.notify_all();
            }
            let (count, by) = state.late;
            state.late.0 = count.saturating_sub(1);
            drop(state);
            if count > 0 {
                thread::sleep(by);
            }
            !*swallow.lock().expect("no panic")
        });
    });
}

/// Answers in the server's place, until the client has closed the connection.
fn answer_instead(mut client: &TcpStream, fate: Fate) {
    if fate == Fate::Fail {
        let page = "HTTP/1.1 500 Internal Server Error\r\nconnection: close\r\ncontent-length: 6\r\n\r\nbroken";
        let _ = client.write_all(page.as_bytes());
        let _ = client.shutdown(Shutdown::Write);
        let _ = std::io::copy(&mut client, &mut std::io::sink());
        return;
    }
    let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: application/json\r\n\r\n";
    let _ = client.write_all(head.as_bytes());
    while client.write_all(&[b'x'; 64 * 1024]).is_ok() {}
}

/// Relays whatever `passes` until one side closes.
fn pump(from: &mut TcpStream, to: &mut TcpStream, mut passes: impl FnMut(&[u8]) -> bool) {
    let mut buffer = [0; 64 * 1024];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        if !passes(&buffer[..n]) || to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
