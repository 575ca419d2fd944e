//! The password if the URL has none, as libpq finds it.

use super::libpq_options::environment;
use super::settings::{SOCKETS, Server};
use std::path::{Path, PathBuf};
use tokio_postgres::Config;
use tokio_postgres::config::Host;

/// From `PGPASSWORD`, else from the password file.
pub(super) fn find(config: &Config, server: &Server) -> Option<String> {
    if let Some(password) = environment("PGPASSWORD") {
        return Some(password);
    }
    let path = environment("PGPASSFILE").map(PathBuf::from);
    let path = path.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".pgpass")))?;
    let mode = std::os::unix::fs::PermissionsExt::mode(&path.metadata().ok()?.permissions());
    if mode & 0o077 != 0 {
        log::warn!("{} is readable by others and was ignored: chmod 600", path.display());
        return None;
    }
    let host = host_in_file(&server.host);
    let user = config.get_user().unwrap_or_default();
    let database = config.get_dbname().unwrap_or(user);
    let wanted = [host.as_str(), &server.port.to_string(), database, user];
    let text = std::fs::read_to_string(&path).ok()?;
    text.lines().find_map(|line| password_in(line, wanted))
}

/// The name of a host in the password file; of a local socket, its directory, unless that is the usual one.
fn host_in_file(host: &Host) -> String {
    match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(directory) if directory == Path::new(SOCKETS) => "localhost".to_owned(),
        Host::Unix(directory) => directory.display().to_string(),
    }
}

/// The password in a line of the password file, if the line is for these (host, port, database, user).
fn password_in(line: &str, wanted: [&str; 4]) -> Option<String> {
    if line.starts_with('#') {
        return None;
    }
    let mut fields: Vec<String> = Vec::new();
    let mut field = String::new();
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => field.extend(letters.next()),
            // The password is the rest, whatever it contains.
            ':' if fields.len() < 4 => fields.push(std::mem::take(&mut field)),
            letter => field.push(letter),
        }
    }
    fields.push(field);
    let [parts @ .., password] = fields.as_slice() else {
        return None;
    };
    let fits = parts.len() == 4
        && parts
            .iter()
            .zip(wanted)
            .all(|(part, wanted)| part == "*" || part == wanted);
    fits.then(|| password.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_sockets_in_the_password_file() {
        for (host, called) in [
            (Host::Tcp("db1".to_owned()), "db1"),
            (Host::Unix(SOCKETS.into()), "localhost"),
            (Host::Unix("/tmp/other".into()), "/tmp/other"),
        ] {
            assert_eq!(host_in_file(&host), called);
        }
    }

    #[test]
    fn lines_of_the_password_file() {
        let wanted = ["db1", "5432", "jobs", "ann"];
        assert_eq!(
            password_in("db1:5432:jobs:ann:s3:cret", wanted).as_deref(),
            Some("s3:cret")
        );
        assert_eq!(password_in(r"*:*:*:ann:a\\b\:c", wanted).as_deref(), Some(r"a\b:c"));
        for other in ["db2:*:*:*:x", "# *:*:*:*:x", "db1:5432", "", "*:*:*:bob:x"] {
            assert_eq!(password_in(other, wanted), None, "{other}");
        }
    }
}
