//! The options of a URL, and the variables that stand for them, as libpq has them. What cannot be honoured is refused.

use crate::lock::engines::url::decoded;
use crate::lock::system::printable;
use crate::lock::types::{Error, Result};

/// A variable of the environment; one that is empty counts as absent.
pub(super) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The refusal of what cannot be honoured.
pub(super) fn refuse<T>(what: String) -> Result<T> {
    Err(Error::Unsupported {
        engine: "postgres",
        what,
    })
}

/// The options of the URL that are read here, each with the variable that stands for it.
const OWN: [(&str, &str); 15] = [
    ("sslmode", "PGSSLMODE"),
    ("sslrootcert", "PGSSLROOTCERT"),
    ("sslcert", "PGSSLCERT"),
    ("sslkey", "PGSSLKEY"),
    ("sslcrl", "PGSSLCRL"),
    ("sslsni", "PGSSLSNI"),
    ("sslcertmode", "PGSSLCERTMODE"),
    ("ssl_min_protocol_version", "PGSSLMINPROTOCOLVERSION"),
    ("ssl_max_protocol_version", "PGSSLMAXPROTOCOLVERSION"),
    ("sslnegotiation", "PGSSLNEGOTIATION"),
    ("channel_binding", "PGCHANNELBINDING"),
    ("gssencmode", "PGGSSENCMODE"),
    ("target_session_attrs", "PGTARGETSESSIONATTRS"),
    ("load_balance_hosts", "PGLOADBALANCEHOSTS"),
    ("sslcompression", "PGSSLCOMPRESSION"),
];

/// Variables that ask for something that is not done here.
const REFUSED: [&str; 3] = ["PGREQUIREAUTH", "PGREQUIREPEER", "PGSSLCRLDIR"];

/// Options of libpq that are not supported here.
const LIBPQ_ONLY: [&str; 14] = [
    "client_encoding",
    "fallback_application_name",
    "gssdelegation",
    "gsslib",
    "krbsrvname",
    "passfile",
    "replication",
    "require_auth",
    "requirepeer",
    "requiressl",
    "service",
    "sslcrldir",
    "sslkeylogfile",
    "sslpassword",
];

/// Names and values, as in the URL.
type Pairs = Vec<(String, String)>;

/// The options that are read here, from the URL and the environment.
pub(super) struct Options<'a> {
    pub(super) url: &'a [(String, String)],
    pub(super) environment: &'a dyn Fn(&str) -> Option<String>,
}

/// True if libpq has this option, which is not supported here.
pub(super) fn is_libpqs(name: &str) -> bool {
    LIBPQ_ONLY.contains(&name)
}

impl Options<'_> {
    /// Refuses variables that ask for something that is not done here.
    pub(super) fn refuse_others(&self) -> Result<()> {
        if let Some(variable) = REFUSED.iter().find(|name| (self.environment)(name).is_some()) {
            return refuse(format!("{variable} is set and cannot be honoured"));
        }
        if (self.environment)("PGSERVICE").is_some() && self.get("sslmode").is_none() {
            return refuse("PGSERVICE is set and service files are not read: unset it, or add sslmode=…".to_owned());
        }
        Ok(())
    }

    /// Refuses values that ask for something that is not done here.
    pub(super) fn check_words(&self) -> Result<()> {
        // It is always a server that can be written to: a standby keeps locks of its own.
        self.word(
            "target_session_attrs",
            &[("any", ()), ("read-write", ()), ("primary", ())],
        )?;
        self.word("load_balance_hosts", &[("disable", ())])?;
        self.word("gssencmode", &[("disable", ()), ("prefer", ())])?;
        self.word("sslnegotiation", &[("postgres", ())])?;
        self.word("sslcompression", &[("0", ())])?;
        Ok(())
    }

    /// Its name, as an option or a variable, and its value.
    fn get(&self, name: &str) -> Option<(String, String)> {
        // The last one counts.
        let in_url = self
            .url
            .iter()
            .rev()
            .find(|(key, value)| key == name && !value.is_empty());
        if let Some((key, value)) = in_url {
            return Some((key.clone(), value.clone()));
        }
        let (_, variable) = OWN.iter().find(|(key, _)| *key == name)?;
        let value = (self.environment)(variable)?;
        Some(((*variable).to_owned(), value))
    }

    pub(super) fn value(&self, name: &str) -> Option<String> {
        self.get(name).map(|(_, value)| value)
    }

    /// The meaning of its value, which has to be one of these words.
    pub(super) fn word<T: Copy>(&self, name: &str, words: &[(&str, T)]) -> Result<Option<T>> {
        let Some((name, value)) = self.get(name) else {
            return Ok(None);
        };
        match words.iter().find(|(word, _)| *word == value) {
            Some((_, meaning)) => Ok(Some(*meaning)),
            None => {
                let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                refuse(format!(
                    "{name}={}: only {} can be honoured",
                    printable(&value),
                    known.join(", ")
                ))
            }
        }
    }
}

/// The URL without the options that are read here, and those.
pub(super) fn take_own(url: &str) -> Result<(String, Pairs), &'static str> {
    let start = url.find("://").map_or(0, |at| at + 3);
    // Everything before the first '@' is read as user and password.
    let hosts = start + url[start..].find('@').map_or(0, |at| at + 1);
    if url[start..hosts].contains(['/', '?']) {
        return Err("write '/', '?' and '@' in a user name, a password or an option as '%2F', '%3F', '%40'");
    }
    let Some(question) = url[hosts..].find('?').map(|at| hosts + at) else {
        return Ok((url.to_owned(), Vec::new()));
    };
    let (mut own, mut left) = (Vec::new(), Vec::new());
    for option in url[question + 1..].split('&').filter(|option| !option.is_empty()) {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        let key = decoded(key)?;
        if OWN.iter().any(|(name, _)| *name == key) {
            own.push((key, decoded(value)?));
        } else {
            left.push(option);
        }
    }
    let base = &url[..question];
    let left = if left.is_empty() {
        base.to_owned()
    } else {
        format!("{base}?{}", left.join("&"))
    };
    Ok((left, own))
}
