//! Why there is no answer: etcd's errors, and those on the way to it.

use super::gateway_messages::Header;
use crate::lock::system::printable;
use serde::Deserialize;
use std::io::{self, ErrorKind};

/// What is said of a server that ends the connection instead of answering.
pub(super) const HUNG_UP: &str = "it closes the connection";

/// gRPC status codes, as the gateway passes them on.
pub(super) mod code {
    pub(crate) const CANCELLED: i64 = 1;
    pub(crate) const UNKNOWN: i64 = 2;
    pub(crate) const INVALID_ARGUMENT: i64 = 3;
    pub(crate) const DEADLINE_EXCEEDED: i64 = 4;
    pub(crate) const NOT_FOUND: i64 = 5;
    pub(crate) const PERMISSION_DENIED: i64 = 7;
    pub(crate) const EXHAUSTED: i64 = 8;
    pub(crate) const FAILED_PRECONDITION: i64 = 9;
    pub(crate) const INTERNAL: i64 = 13;
    pub(crate) const UNAVAILABLE: i64 = 14;
    pub(crate) const UNAUTHENTICATED: i64 = 16;
}

/// What etcd has said, or what is to be said of a server that is no etcd.
#[derive(Debug)]
pub(super) struct Said {
    /// One of [`code`]; `None`: it is not etcd's.
    pub(super) code: Option<i64>,
    pub(super) message: String,
}

impl Said {
    /// What is to be said of a server.
    pub(super) fn of_it(message: impl Into<String>) -> Self {
        Self {
            code: None,
            message: message.into(),
        }
    }

    /// True if etcd has said this code with these words.
    pub(super) fn is(&self, code: i64, words: &str) -> bool {
        self.code == Some(code) && self.message.contains(words)
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Fault {
    /// Nobody could be reached; the last reason.
    Unreachable(String),
    Said(Said),
}

impl Fault {
    /// For people.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Unreachable(reason) => reason.clone(),
            Self::Said(said) => printable(&said.message),
        }
    }
}

impl From<Said> for Fault {
    fn from(said: Said) -> Self {
        Self::Said(said)
    }
}

/// Why one server has not answered.
pub(super) enum ServerFault {
    /// Another server, or a later time, may help.
    Passing(Passing),
    Said(Said),
}

/// What another server, or a later time, may help against.
#[derive(Default)]
pub(super) struct Passing {
    /// The request has certainly not arrived.
    pub(super) unheard: bool,
    /// This server and we do not accept each other's certificates, now or later.
    pub(super) incompatible: bool,
    /// There was no answer in the time that it was given.
    pub(super) timeout: bool,
    pub(super) reason: String,
}

impl From<Said> for ServerFault {
    fn from(said: Said) -> Self {
        Self::Said(said)
    }
}

impl From<ureq::Error> for ServerFault {
    fn from(error: ureq::Error) -> Self {
        let error = match error {
            ureq::Error::Io(e) => ureq::Error::from(e), // what it wraps
            other => other,
        };
        let timeout = matches!(error, ureq::Error::Timeout(_));
        let (unheard, incompatible, reason) = match error {
            // It will not be less at the next try.
            ureq::Error::BodyExceedsLimit(limit) => {
                return too_long(limit).into();
            }
            ureq::Error::Timeout(_) => (false, false, "no answer in time".to_owned()),
            ureq::Error::Io(e) => match e.kind() {
                // Not found: the host's address.
                ErrorKind::ConnectionRefused | ErrorKind::NotFound => (true, false, described(&e)),
                ErrorKind::InvalidData => (true, speaks_tls(&e), described(&e)),
                _ => (false, false, described(&e)),
            },
            ureq::Error::Tls(_) => (true, false, error.to_string()),
            _ => (false, false, error.to_string()),
        };
        Self::Passing(Passing {
            unheard,
            incompatible,
            timeout,
            reason,
        })
    }
}

/// What is said of a server whose answer has more bytes than that.
pub(super) fn too_long(limit: u64) -> Said {
    Said::of_it(format!("an answer of more than {} MB", limit / 1_000_000))
}

/// True if TLS has failed, and not because the other side does not speak it.
fn speaks_tls(error: &io::Error) -> bool {
    !error.to_string().contains("InvalidContentType")
}

/// What has happened to a connection, and what to do about it, as far as that can be known.
fn described(error: &io::Error) -> String {
    let what = error.to_string();
    let advice = match error.kind() {
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => return HUNG_UP.to_owned(),
        ErrorKind::InvalidData if !speaks_tls(error) => ": it does not speak TLS; write etcd://",
        // Bad: of another authority with the same name as the one we know.
        ErrorKind::InvalidData if ["UnknownIssuer", "BadSignature"].iter().any(|why| what.contains(why)) => {
            "; name its authority in ETCDCTL_CACERT"
        }
        ErrorKind::InvalidData if what.contains("fatal alert") && what.contains("ertificate") => {
            "; it wants a certificate that it knows: ETCDCTL_CERT and ETCDCTL_KEY"
        }
        _ => "",
    };
    format!("{what}{advice}")
}

/// True if nothing has come for the time that a stream may be silent.
pub(super) fn is_silence(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>());
    matches!(inner, Some(ureq::Error::Timeout(_)))
        || matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock)
}

/// What any answer may say: that it is an error, or which etcd it is of. One answer has its error's parts at the top, one
/// of a stream below `error`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Words {
    header: Option<Header>,
    result: Option<ResultWords>,
    error: Option<ErrorWords>,
    message: Option<String>,
    code: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ResultWords {
    header: Option<Header>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum ErrorWords {
    Text(String),
    Parts {
        message: Option<String>,
        code: Option<i64>,
        grpc_code: Option<i64>,
    },
}

impl Words {
    fn error(self) -> Option<(i64, String)> {
        let (code, message) = match self.error {
            Some(ErrorWords::Parts {
                message,
                code,
                grpc_code,
            }) => (code.or(grpc_code), message),
            Some(ErrorWords::Text(text)) => (None, Some(text)),
            None => (None, None),
        };
        Some((self.code.or(code)?, self.message.or(message)?))
    }
}

/// The header of an answer, if it has one, unless the answer is an error.
pub(super) fn check(status: u16, text: &str) -> Result<Option<Header>, ServerFault> {
    let words: Option<Words> = serde_json::from_str(text).ok();
    match words {
        Some(words) if status < 300 && words.error.is_none() => {
            Ok(words.header.or(words.result.and_then(|result| result.header)))
        }
        words => Err(match words.and_then(Words::error) {
            Some((code, message)) => fault(code, message),
            None => of_another_server(status, text),
        }),
    }
}

/// What has answered is no etcd, or a proxy before it.
fn of_another_server(status: u16, text: &str) -> ServerFault {
    let start: String = text.trim().chars().take(80).collect();
    let reason = match status {
        404 => "not an etcd client port (usually 2379): HTTP status 404".to_owned(),
        400 if start.contains("HTTPS server") => "it wants TLS: write etcds:// (HTTP status 400)".to_owned(),
        _ => format!("HTTP status {status}, and not etcd's words: '{}'", printable(&start)),
    };
    match status {
        502..=504 => ServerFault::Passing(Passing {
            reason,
            ..Passing::default()
        }),
        _ => Said::of_it(reason).into(),
    }
}

/// What an error of etcd's means.
fn fault(code: i64, message: String) -> ServerFault {
    let says = |words: &[&str]| words.iter().any(|words| message.contains(words));
    let passing = match code {
        code::CANCELLED | code::UNAVAILABLE | code::DEADLINE_EXCEEDED => true,
        code::EXHAUSTED => !says(&["space"]),
        // A member that is asked to stop closes its gateway's connection to itself first, and says so in several ways.
        code::UNKNOWN | code::INTERNAL => says(&["closing", "transport", "stopped"]),
        _ => false,
    };
    // Of a server that gets no processor, or no answer from the others: with whatever code.
    let late = ["timed out", "deadline exceeded"];
    if passing || says(&["leader changed", "no leader"]) || says(&late) {
        ServerFault::Passing(Passing {
            reason: message,
            ..Passing::default()
        })
    } else {
        ServerFault::Said(Said {
            code: Some(code),
            message,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_in_all_their_forms() {
        for (status, text, code, words) in [
            (400, r#"{"error":"x","message":"bad","code":3}"#, Some(3), "bad"),
            (400, r#"{"error":"bad","code":3,"details":[{}]}"#, Some(3), "bad"),
            (
                200,
                r#"{"error":{"grpc_code":5,"http_code":404,"message":"gone"}}"#,
                Some(5),
                "gone",
            ),
            (200, r#"{"error":{"code":16}}"#, None, "not etcd's words"),
            (200, r#"{"header":5}"#, None, "not etcd's words"),
            (200, "\u{1b}[2J", None, r"'\u{1b}[2J'"),
            (200, "", None, "''"),
            (404, "<html>", None, "not an etcd client port"),
            (400, "Client sent an HTTP request to an HTTPS server.", None, "etcds://"),
        ] {
            match check(status, text) {
                Err(ServerFault::Said(said)) => {
                    assert_eq!(said.code, code, "{text}");
                    assert!(said.message.contains(words), "{text}: {}", said.message);
                }
                _ => panic!("{text} is an error for good"),
            }
        }
        for (status, text) in [
            (503, "busy"),
            (503, r#"{"code":14,"message":"etcdserver: leader changed"}"#),
            (500, r#"{"code":2,"message":"grpc: the client connection is closing"}"#),
            (429, r#"{"code":8,"message":"etcdserver: too many requests"}"#),
            (500, r#"{"code":2,"message":"context deadline exceeded"}"#),
        ] {
            assert!(matches!(check(status, text), Err(ServerFault::Passing(_))), "{text}");
        }
        let none = check(200, r#"{"result":{}}"#);
        assert!(matches!(none, Ok(None)));
        let header = check(200, r#"{"result":{"header":{"cluster_id":"7","new":{}}}}"#);
        assert!(matches!(header, Ok(Some(header)) if header.cluster_id == "7"));
    }
}
