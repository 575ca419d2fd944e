//! Host names: resolving them to addresses, within a time limit.
//!
//! The system's function, getaddrinfo(3), blocks for as long as it likes. A program that is linked statically must not
//! call it at all: it loads this machine's name services, which need the dynamic libc, and crashes or finds nothing. Such
//! a program (the command-line tool is one, so that it starts fast) runs getent(1), which comes with libc and calls the
//! same function.

use super::background;
use crate::lock::sys;
use crate::lock::system::{Process, getent, printable};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::BTreeSet;
use std::io::{self, Read as _};
use std::net::{IpAddr, SocketAddr, SocketAddrV6, ToSocketAddrs as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A longer answer is cut; in bytes.
const LONGEST_ANSWER: usize = 65_536;

/// Resolves `host` (a name, or an address with or without brackets). Does not block: `tell` gets the addresses, at least
/// one, in the order in which to try them. It is called in another thread, or at once for an address. An answer that
/// takes longer than `time` may come too late to be of use; what was started for it ends then.
///
/// # Errors
/// No thread can be started. `tell` gets [`io::ErrorKind::NotFound`], with a reason for people that names the host.
pub(crate) fn resolve(
    host: &str,
    port: u16,
    time: Duration,
    tell: impl FnOnce(io::Result<Vec<SocketAddr>>) + Send + 'static,
) -> crate::Result<()> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    if let Some(address) = address(bare.unwrap_or(host), port) {
        tell(Ok(vec![address]));
        return Ok(());
    }
    let host = host.to_owned();
    background::spawn("resolver", move || {
        let found = if sys::is_static() {
            ask_getent(&host, port, time)
        } else {
            (host.as_str(), port)
                .to_socket_addrs()
                .map(Iterator::collect)
                .map_err(|error| error.to_string())
        };
        let found = found.and_then(|addresses: Vec<SocketAddr>| match addresses.is_empty() {
            true => Err("it has no address".to_owned()),
            false => Ok(addresses),
        });
        tell(found.map_err(|why| {
            let host = printable(&host);
            io::Error::new(
                io::ErrorKind::NotFound,
                format!("the address of {host} is not known: {why}"),
            )
        }));
    })?;
    Ok(())
}

/// Runs getent(1).
fn ask_getent(host: &str, port: u16, time: Duration) -> Result<Vec<SocketAddr>, String> {
    let end = Instant::now() + time;
    let mut child = getent(&["ahosts", "--", host], start)
        .map_err(|e| format!("this program needs getent(1) to resolve names: {e}"))?;
    // Opened before anybody can have reaped it: a number alone may come to mean another process.
    let process = Process::open(child.id());
    let answer = read(&mut child, end);
    match process {
        Ok(process) => drop(process.signal(libc::SIGKILL)),
        Err(_) => drop(child.kill()),
    }
    // Somebody else in this process may have reaped it: its answer is enough.
    let _ = child.wait();
    let addresses = addresses(&answer?, port);
    if addresses.is_empty() {
        let host = printable(host);
        return Err(format!("'getent ahosts {host}' finds none"));
    }
    Ok(addresses)
}

/// Starts it in a process group of its own: what a terminal sends to this program's group is not for it.
fn start(command: &mut Command) -> io::Result<Child> {
    command.process_group(0).stdout(Stdio::piped());
    sys::ends_with_its_maker(command);
    command.spawn()
}

/// Its answer, which has to come until `end`.
fn read(child: &mut Child, end: Instant) -> Result<String, String> {
    let Some(mut output) = child.stdout.take() else {
        return Ok(String::new());
    };
    let mut text = Vec::new();
    let mut part = [0; 4096];
    while wait_for(output.as_fd(), end) {
        match output.read(&mut part) {
            Ok(0) => return Ok(String::from_utf8_lossy(&text).into_owned()),
            Ok(count) => text.extend(part.iter().take(count)),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e.to_string()),
        }
        if text.len() >= LONGEST_ANSWER {
            return Ok(String::from_utf8_lossy(&text).into_owned());
        }
    }
    Err("no answer in time".to_owned())
}

/// Waits until there is something to read; false = not until `end`.
fn wait_for(output: BorrowedFd<'_>, end: Instant) -> bool {
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        let slice = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        if poll(&mut [PollFd::new(output, PollFlags::POLLIN)], slice).is_ok_and(|ready| ready > 0) {
            return true;
        }
    }
}

/// The addresses in lines `ADDRESS TYPE NAME`, each once.
fn addresses(text: &str, port: u16) -> Vec<SocketAddr> {
    let mut seen = BTreeSet::new();
    let firsts = text.lines().filter_map(|line| line.split_whitespace().next());
    let found = firsts.filter_map(|word| address(word, port));
    found.filter(|address| seen.insert(*address)).collect()
}

/// An address written as such, with the interface behind a '%' if it has one.
fn address(text: &str, port: u16) -> Option<SocketAddr> {
    let Some((text, interface)) = text.split_once('%') else {
        return Some(SocketAddr::new(text.parse::<IpAddr>().ok()?, port));
    };
    let index = interface.parse().ok();
    let index = index.or_else(|| nix::net::if_::if_nametoindex(interface).ok())?;
    Some(SocketAddrV6::new(text.parse().ok()?, port, 0, index).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn resolved(host: &str) -> io::Result<Vec<SocketAddr>> {
        let (tell, told) = mpsc::channel();
        resolve(host, 7, Duration::from_secs(60), move |found| tell.send(found).unwrap()).unwrap();
        told.recv().unwrap()
    }

    #[test]
    fn addresses_are_looked_up_nowhere() {
        for (host, address) in [
            ("127.0.0.2", "127.0.0.2:7"),
            ("::1", "[::1]:7"),
            ("[::1]", "[::1]:7"),
            ("fe80::1%lo", "[fe80::1%1]:7"),
            ("fe80::1%3", "[fe80::1%3]:7"),
        ] {
            assert_eq!(resolved(host).unwrap(), [address.parse().unwrap()], "{host}");
        }
    }

    #[test]
    fn getent_knows_what_the_system_knows() {
        let own = resolved("localhost").unwrap();
        assert!(
            own.iter()
                .all(|address| address.ip().is_loopback() && address.port() == 7)
        );
        let asked = ask_getent("localhost", 7, Duration::from_secs(60)).unwrap();
        assert_eq!(asked.iter().collect::<BTreeSet<_>>(), own.iter().collect());
    }

    #[test]
    fn what_is_not_known_is_said() {
        for host in ["no-such-host.invalid", "-?", "--help", "a b", "fe80::1%no/such"] {
            let asked = ask_getent(host, 7, Duration::from_secs(60)).unwrap_err();
            assert_eq!(asked, format!("'getent ahosts {host}' finds none"));
            let error = resolved(host).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
            assert!(error.to_string().contains(host), "{error}");
        }
    }

    #[test]
    fn lines_of_getent() {
        let text = "::1             STREAM localhost\n::1  DGRAM\n127.0.0.1 STREAM \n127.0.0.1 RAW\nnonsense\n\n";
        let found: Vec<String> = addresses(text, 80).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["[::1]:80", "127.0.0.1:80"]);
        assert!(addresses("", 80).is_empty());
    }
}
