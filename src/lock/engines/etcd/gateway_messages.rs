//! What is said to etcd's JSON gateway, and what it answers. In an answer, unknown fields are ignored, and absent ones
//! have their default, as the gateway leaves out what is 0, false or empty.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes; base64 in JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Bytes(Vec<u8>);

impl Bytes {
    /// As text. Others may have stored anything.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }

    /// The first key after this one.
    fn next(&self) -> Self {
        Self([&self.0[..], &[0]].concat())
    }
}

impl From<&str> for Bytes {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        BASE64.decode(text).map(Self).map_err(D::Error::custom)
    }
}

/// A 64-bit number; text in JSON.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Number(pub(super) i64);

impl From<u64> for Number {
    fn from(number: u64) -> Self {
        Self(number.cast_signed())
    }
}

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Text(String),
            Number(i64),
        }
        match Written::deserialize(deserializer)? {
            Written::Text(text) => text.parse().map(Self).map_err(D::Error::custom),
            Written::Number(number) => Ok(Self(number)),
        }
    }
}

/// A request to the gateway.
pub(super) trait Call: Serialize {
    /// What is called.
    const PATH: &'static str;
    /// What is answered, besides a [`Header`].
    type Answer: DeserializeOwned;
}

/// What each answer of an etcd begins with.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Header {
    pub(super) cluster_id: String,
    /// The revision at which the answer was true.
    pub(super) revision: Number,
    /// The term in which the member has answered.
    pub(super) raft_term: Number,
}

/// An answer that says no more than that it was done.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Done {}

/// Asks a server who it is.
#[derive(Serialize)]
pub(super) struct Status {}

impl Call for Status {
    const PATH: &'static str = "maintenance/status";
    type Answer = Done;
}

#[derive(Serialize)]
pub(super) struct Authenticate<'a> {
    pub(super) name: &'a str,
    pub(super) password: &'a str,
}

impl Call for Authenticate<'_> {
    const PATH: &'static str = "auth/authenticate";
    type Answer = Login;
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Login {
    pub(super) token: String,
}

/// Reads keys.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Range {
    key: Bytes,
    #[serde(skip_serializing_if = "Option::is_none")]
    range_end: Option<Bytes>,
    keys_only: bool,
    /// The number of keys at most; 0 is no limit.
    limit: Number,
}

impl Range {
    pub(super) fn of(key: &str) -> Self {
        Self {
            key: key.into(),
            range_end: None,
            keys_only: false,
            limit: Number(0),
        }
    }

    /// All keys that begin with `directory`, which ends with a slash; all there are if it is empty.
    pub(super) fn below(directory: &str) -> Self {
        match directory.strip_suffix('/') {
            Some(name) => Self {
                range_end: Some(format!("{name}0").as_str().into()), // '0' comes after '/'
                ..Self::of(directory)
            },
            None => Self {
                range_end: Some("\0".into()),
                ..Self::of("\0")
            },
        }
    }

    /// Only the keys, not their values.
    pub(super) fn keys_only(self) -> Self {
        Self {
            keys_only: true,
            ..self
        }
    }

    /// As many keys at a time.
    pub(super) fn by_pages_of(self, limit: i64) -> Self {
        Self {
            limit: Number(limit),
            ..self
        }
    }

    /// What follows `key`.
    pub(super) fn after(self, key: &Bytes) -> Self {
        Self {
            key: key.next(),
            ..self
        }
    }
}

impl Call for Range {
    const PATH: &'static str = "kv/range";
    type Answer = Keys;
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Keys {
    pub(super) kvs: Vec<KeyValue>,
    /// The limit was reached.
    pub(super) more: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct KeyValue {
    pub(super) key: Bytes,
    pub(super) value: Bytes,
    pub(super) create_revision: Number,
    pub(super) mod_revision: Number,
    /// How often it was put since it was created.
    pub(super) version: Number,
    pub(super) lease: Number,
}

/// If all comparisons hold, does `success`, else `failure`.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Transaction {
    pub(super) compare: Vec<Compare>,
    pub(super) success: Vec<Operation>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) failure: Vec<Operation>,
}

impl Transaction {
    /// Does `then` if `key` is still what revision `created` made, and nothing else.
    pub(super) fn if_still(key: &str, created: u64, then: Operation) -> Self {
        let key = key.into();
        let create_revision = created.into();
        Self {
            compare: vec![Compare::Create { key, create_revision }],
            success: vec![then],
            failure: Vec::new(),
        }
    }
}

impl Call for Transaction {
    const PATH: &'static str = "kv/txn";
    type Answer = Transacted;
}

#[derive(Debug, Clone, Serialize)]
#[serde(tag = "target", rename_all = "UPPERCASE")]
pub(super) enum Compare {
    /// The revision that created the key; 0: it is not there.
    Create { key: Bytes, create_revision: Number },
    /// The lease on which it hangs.
    Lease { key: Bytes, lease: Number },
    /// What is stored.
    Value { key: Bytes, value: Bytes },
}

#[derive(Debug, Clone, Serialize)]
pub(super) enum Operation {
    #[serde(rename = "request_put")]
    Put {
        key: Bytes,
        value: Bytes,
        /// 0 is none.
        lease: Number,
    },
    #[serde(rename = "request_range")]
    Read(Range),
    #[serde(rename = "request_delete_range")]
    Delete { key: Bytes },
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Transacted {
    /// The comparisons held.
    pub(super) succeeded: bool,
    responses: Vec<Response>,
}

impl Transacted {
    /// The keys that it has read.
    pub(super) fn keys(&self) -> &[KeyValue] {
        let read = self
            .responses
            .iter()
            .find_map(|response| response.response_range.as_ref());
        read.map_or(&[], |keys| &keys.kvs)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Response {
    response_range: Option<Keys>,
}

/// Grants a lease with a number of our own choice.
#[derive(Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) struct Grant {
    /// Seconds.
    pub(super) ttl: Number,
    pub(super) id: Number,
}

impl Call for Grant {
    const PATH: &'static str = "lease/grant";
    type Answer = Granted;
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "UPPERCASE")]
pub(super) struct Granted {
    pub(super) ttl: Number,
    pub(super) id: Number,
}

/// Renews a lease.
#[derive(Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) struct KeepAlive {
    pub(super) id: Number,
}

impl Call for KeepAlive {
    const PATH: &'static str = "lease/keepalive";
    type Answer = Streamed<Granted>;
}

/// Gives a lease back, with every key that hangs on it.
#[derive(Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) struct Revoke {
    pub(super) id: Number,
}

impl Call for Revoke {
    const PATH: &'static str = "lease/revoke";
    type Answer = Done;
}

/// One answer of a stream.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Streamed<A> {
    pub(super) result: A,
}

/// Watches keys.
#[derive(Debug, Serialize)]
pub(super) struct WatchCall {
    create_request: CreateWatch,
}

#[derive(Debug, Serialize)]
struct CreateWatch {
    key: Bytes,
    #[serde(skip_serializing_if = "Option::is_none")]
    range_end: Option<Bytes>,
    start_revision: Number,
    filters: &'static [&'static str],
}

impl WatchCall {
    /// Watches the keys of `range` from the revision `from` on.
    pub(super) fn new(range: Range, from: i64, deletions_only: bool) -> Self {
        Self {
            create_request: CreateWatch {
                key: range.key,
                range_end: range.range_end,
                start_revision: Number(from),
                filters: if deletions_only { &["NOPUT"] } else { &[] },
            },
        }
    }
}

impl Call for WatchCall {
    const PATH: &'static str = "watch";
    type Answer = Streamed<Watched>;
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Watched {
    /// It has ended.
    pub(super) canceled: bool,
    /// If not 0: etcd has forgotten the events before this revision.
    pub(super) compact_revision: Number,
    pub(super) events: Vec<Event>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Event {
    r#type: String,
    pub(super) kv: KeyValue,
}

impl Event {
    pub(super) fn is_deletion(&self) -> bool {
        self.r#type == "DELETE"
    }

    /// How many bytes of memory it takes, about.
    pub(super) fn size(&self) -> usize {
        size_of::<Self>() + self.r#type.len() + self.kv.key.0.len() + self.kv.value.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_str, json, to_value};

    #[test]
    fn numbers_are_text_or_numbers() {
        for (text, number) in [
            (r#"{"ID":"7","TTL":10}"#, Some((7, 10))),
            (r#"{"ID":"-7","unknown":[]}"#, Some((-7, 0))),
            (r#"{"ID":"9223372036854775808"}"#, None),
            (r#"{"ID":"x"}"#, None),
            (r#"{"ID":1.5}"#, None),
            (r#"{"ID":{}}"#, None),
        ] {
            let read = from_str::<Granted>(text).ok();
            assert_eq!(read.map(|read| (read.id.0, read.ttl.0)), number, "{text}");
        }
    }

    #[test]
    fn requests_in_the_words_of_the_gateway() {
        let delete = Transaction::if_still("n/1", 5, Operation::Delete { key: "n/1".into() });
        let wanted = json!({
            "compare": [{"target": "CREATE", "key": "bi8x", "create_revision": "5"}],
            "success": [{"request_delete_range": {"key": "bi8x"}}],
        });
        assert_eq!(to_value(delete).unwrap(), wanted);
        let watch = WatchCall::new(Range::below("n/"), 9, true);
        let wanted = json!({"create_request":
            {"key": "bi8=", "range_end": "bjA=", "start_revision": "9", "filters": ["NOPUT"]}});
        assert_eq!(to_value(watch).unwrap(), wanted);
        let range = Range::below("").keys_only().by_pages_of(7).after(&Bytes(vec![255]));
        let wanted = json!({"key": "/wA=", "range_end": "AA==", "keys_only": true, "limit": "7"});
        assert_eq!(to_value(range).unwrap(), wanted);
    }
}
