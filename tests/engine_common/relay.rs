//! A way to a server that can be disturbed: bytes go to and fro until the test says otherwise.

use super::wait_until;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

/// Listens on a port of its own for as long as this program runs.
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
    /// The answer to the next request for this path is swallowed, and the connection closed.
    swallow: Option<&'static str>,
    swallowed: bool,
    /// The next request for this path is held back.
    hold: Option<&'static str>,
    held: bool,
}

impl Relay {
    /// To `host:port`.
    pub fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = listener.local_addr().expect("it has an address").port();
        let orders = Arc::new(Orders::default());
        let (server, shared) = (server.to_owned(), orders.clone());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // A server that is gone: the client finds its connection closed.
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

    /// The server gets the next request for `path` and answers, but nobody hears it.
    pub fn swallow_answer(&self, path: &'static str) {
        let mut state = self.orders.state.lock().expect("no panic");
        (state.swallow, state.swallowed) = (Some(path), false);
    }

    /// Until that has happened.
    pub fn wait_swallowed(&self) {
        wait_until("an answer is swallowed", || {
            self.orders.state.lock().expect("no panic").swallowed
        });
    }

    /// The next request for `path` is not passed on before [`let_go`](Self::let_go).
    pub fn hold(&self, path: &'static str) {
        let mut state = self.orders.state.lock().expect("no panic");
        (state.hold, state.held) = (Some(path), false);
    }

    pub fn wait_held(&self) {
        wait_until("a request is held back", || {
            self.orders.state.lock().expect("no panic").held
        });
    }

    pub fn let_go(&self) {
        self.orders.state.lock().expect("no panic").held = false;
        self.orders.changed.notify_all();
    }
}

fn connect(client: &TcpStream, upstream: &TcpStream, orders: &Arc<Orders>) {
    let swallow = Arc::new(Mutex::new(false));
    let ends = || {
        [
            client.try_clone().expect("a copy"),
            upstream.try_clone().expect("a copy"),
        ]
    };
    let ([mut from, mut to], orders, fate) = (ends(), orders.clone(), swallow.clone());
    let back = ends();
    thread::spawn(move || {
        pump(&mut from, &mut to, |request| {
            let asks_for = |path: &&'static str| {
                let head = format!("POST /v3/{path} ");
                request.starts_with(head.as_bytes())
            };
            let mut state = orders.state.lock().expect("no panic");
            if state.hold.take_if(|path| asks_for(&&**path)).is_some() {
                state.held = true;
                let going = orders.changed.wait_while(state, |state| state.held);
                state = going.expect("no panic");
            }
            if state.swallow.take_if(|path| asks_for(&&**path)).is_some() {
                *fate.lock().expect("no panic") = true;
                state.swallowed = true;
            }
            true
        });
    });
    let [mut to, mut from] = back;
    thread::spawn(move || pump(&mut from, &mut to, |_| !*swallow.lock().expect("no panic")));
}

/// Passes on what `passes`, until one side closes.
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
