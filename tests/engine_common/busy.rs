//! How busy the machine is.

use std::fs::read_to_string;

/// For how long processes of this machine have lacked something that they needed to go on: a processor, the disk, memory; or
/// the machine itself was not run. In ns, since it was started. What the kernel does not count is not in it. It is the most
/// that one of them can have waited: the kernel counts an average of all processors.
pub fn waited() -> u64 {
    let lacked: u64 = ["cpu", "io", "memory"].into_iter().filter_map(lacked).sum();
    let processors = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    lacked * processors * 1000 + stolen().unwrap_or(0) * 10_000_000
}

/// For how many µs at least one process lacked this: `some avg10=… avg60=… avg300=… total=µs`.
fn lacked(what: &str) -> Option<u64> {
    let text = read_to_string(format!("/proc/pressure/{what}")).ok()?;
    let some = text.lines().find(|line| line.starts_with("some "))?;
    some.rsplit_once("total=")?.1.parse().ok()
}

/// For how many ticks the host has run other machines: `cpu`, then seven other numbers.
fn stolen() -> Option<u64> {
    let text = read_to_string("/proc/stat").ok()?;
    text.lines().next()?.split_whitespace().nth(8)?.parse().ok()
}
