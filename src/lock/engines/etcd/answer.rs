//! What etcd answers, and what that means: its words in JSON, its errors, the errors on the way.

use crate::lock::system::printable;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;
use std::io::{self, BufRead, BufReader, ErrorKind};

/// What is said of a server that ends the connection instead of answering.
pub(super) const HUNG_UP: &str = "it closes the connection";

/// gRPC status codes, as the gateway passes them on.
pub(crate) mod code {
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

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Fault {
    /// Nobody could be reached; the last reason.
    Unreachable(String),
    /// etcd has said so.
    Said { code: i64, message: String },
}

/// A stream of answers, one a line.
pub(crate) struct Stream(BufReader<ureq::BodyReader<'static>>);

impl Stream {
    pub(super) fn new(body: ureq::Body) -> Self {
        Self(BufReader::new(body.into_reader()))
    }

    /// The next answer's `result`. `Ok(None)`: nothing came for the idle time.
    pub(crate) fn next(&mut self) -> Result<Option<Value>, Fault> {
        let mut line = String::new();
        match self.0.read_line(&mut line) {
            Ok(0) => Err(Fault::Unreachable("the connection was closed".to_owned())),
            Ok(_) => {
                let mut value: Value = serde_json::from_str(&line).unwrap_or_default();
                match check(200, &value, &line) {
                    Ok(()) => Ok(Some(value["result"].take())),
                    Err(Try::Said { code, message }) => Err(Fault::Said { code, message }),
                    Err(Try::Again { what, .. }) => Err(Fault::Unreachable(what)),
                }
            }
            Err(e) if is_silence(&e) => Ok(None),
            Err(e) => Err(Fault::Unreachable(e.to_string())),
        }
    }
}

/// Whether nothing has come for the idle time.
fn is_silence(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>());
    matches!(inner, Some(ureq::Error::Timeout(_)))
        || matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock)
}

/// Why one server has not answered.
pub(super) enum Try {
    /// Another one, or a later time, may help. `nobody`: the request has certainly not arrived. `disagree`: this one
    /// and we do not accept each other's certificates, now or later.
    Again {
        nobody: bool,
        disagree: bool,
        what: String,
    },
    Said {
        code: i64,
        message: String,
    },
}

pub(super) fn failed(error: ureq::Error) -> Try {
    let error = match error {
        ureq::Error::Io(e) => ureq::Error::from(e), // what it wraps
        other => other,
    };
    if let ureq::Error::BodyExceedsLimit(limit) = error {
        // It will not be less at the next try.
        let message = format!("an answer of more than {} MB", limit / 1_000_000);
        return Try::Said { code: 0, message };
    }
    let (nobody, disagree) = match &error {
        ureq::Error::Io(e) => match e.kind() {
            // Not found: the host's address.
            ErrorKind::ConnectionRefused | ErrorKind::NotFound => (true, false),
            ErrorKind::InvalidData => (true, speaks_tls(e)),
            _ => (false, false),
        },
        ureq::Error::Tls(_) => (true, false),
        _ => (false, false),
    };
    let what = match error {
        ureq::Error::Timeout(_) => "no answer in time".to_owned(),
        ureq::Error::Io(e) => io_trouble(&e),
        other => other.to_string(),
    };
    Try::Again { nobody, disagree, what }
}

/// Whether TLS has failed, and not because the other side does not speak it.
fn speaks_tls(error: &io::Error) -> bool {
    !error.to_string().contains("InvalidContentType")
}

/// What has happened to a connection, and what to do about it, in so far as that can be known.
fn io_trouble(error: &io::Error) -> String {
    let what = error.to_string();
    let advice = match error.kind() {
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => return HUNG_UP.to_owned(),
        ErrorKind::InvalidData if !speaks_tls(error) => ": it does not speak TLS; write etcd://",
        // Bad: of another authority that is called like the one we know.
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

/// Whether an answer is an error.
pub(super) fn check(status: u16, value: &Value, text: &str) -> Result<(), Try> {
    // One answer has its error's parts at the top, one of a stream below `error`.
    let part = |name: &str| {
        [&value[name], &value["error"][name]]
            .into_iter()
            .find(|part| !part.is_null())
    };
    let error = &value["error"];
    if status < 300 && error.is_null() && value.is_object() {
        return Ok(());
    }
    let message = part("message").and_then(Value::as_str).or(error.as_str());
    let code = part("code").or(part("grpc_code")).and_then(Value::as_i64);
    let (Some(message), Some(code)) = (message, code) else {
        let start: String = text.trim().chars().take(80).collect();
        let what = match status {
            404 => "not an etcd client port (usually 2379): HTTP status 404".to_owned(),
            400 if start.contains("HTTPS server") => "it wants TLS: write etcds:// (HTTP status 400)".to_owned(),
            _ => format!("HTTP status {status}, and not etcd's words: '{}'", printable(&start)),
        };
        return Err(match status {
            502..=504 => Try::Again {
                nobody: false,
                disagree: false,
                what,
            },
            _ => Try::Said { code: 0, message: what },
        });
    };
    let message = message.to_owned();
    let no_space = code == code::EXHAUSTED && message.contains("space");
    // A member that is asked to stop closes what its gateway has to itself first, and says so in several ways.
    let stopping = matches!(code, code::UNKNOWN | code::INTERNAL)
        && ["closing", "transport", "stopped"]
            .iter()
            .any(|what| message.contains(what));
    let passing = matches!(code, code::CANCELLED | code::UNAVAILABLE | code::DEADLINE_EXCEEDED)
        || stopping
        || (code == code::EXHAUSTED && !no_space)
        || message.contains("leader changed")
        || message.contains("no leader")
        || message.contains("timed out");
    Err(if passing {
        Try::Again {
            nobody: false,
            disagree: false,
            what: message,
        }
    } else {
        Try::Said { code, message }
    })
}

/// Bytes as the gateway wants them.
pub(crate) fn encoded(bytes: &str) -> String {
    BASE64.encode(bytes)
}

/// The first key after this one, both as the gateway has them.
pub(crate) fn after(key: &Value) -> Option<String> {
    let mut bytes = BASE64.decode(key.as_str()?).ok()?;
    bytes.push(0);
    Some(BASE64.encode(bytes))
}

/// Text from the gateway's bytes.
pub(crate) fn decoded(value: &Value) -> String {
    let bytes = BASE64.decode(value.as_str().unwrap_or_default()).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A 64-bit number: the gateway writes it as text, and leaves out a 0.
pub(crate) fn number(value: &Value) -> i64 {
    let text = value.as_str().and_then(|text| text.parse().ok());
    text.or(value.as_i64()).unwrap_or(0)
}
