//! No /proc, as in a minimal container or early during boot. Locks are created and used all the same: beacons alone
//! show who is dead, and what needs /proc says so.

use crate::common::printed_in_private_shm;

/// Runs a script with an empty directory in place of /proc.
fn without_proc(script: &str) -> String {
    printed_in_private_shm(&format!(
        "mount -t tmpfs tmpfs /proc && ! [ -e /proc/self ] || exit 98\n{script}"
    ))
}

#[test]
fn a_lock_is_made_and_used() {
    let said = without_proc(
        "$RL bus run -- echo inside; $RL bus run --no-fork -- echo again
        $RL bus get -q && $RL bus state -q && echo locked; $RL bus run -n -E 7 -- echo never; echo $?
        $RL bus unget -q; $RL bus state -q || echo free
        ls -A /dev/shm | LC_ALL=C sort",
    );
    assert_eq!(
        said,
        "inside\nagain\nlocked\n7\nfree\nbus\nresourcelock3.bus\nsem.bus\n"
    );
}

#[test]
fn a_dead_wrappers_command_keeps_the_lock_until_it_ends() {
    let said = without_proc(
        "mkfifo /tmp/resourcelock-no-proc-$$ || exit; exec 3<>/tmp/resourcelock-no-proc-$$; rm /tmp/resourcelock-no-proc-$$
        $RL bus run -- sh -c 'echo $$ >&3; exec sleep 3600' & wrapper=$!
        read command <&3
        kill -9 $wrapper; wait $wrapper
        $RL bus run -n -E 7 -- echo never; echo $?
        kill -9 $command
        $RL bus run -- sh -c 'echo abandoned: $RESOURCELOCK_ABANDONED'",
    );
    assert_eq!(said, "7\nabandoned: 1\n");
}

#[test]
fn what_needs_it_says_so() {
    let said = without_proc("$RL bus get --pid $$ 2>&1; echo $?; $RL bus state -q || echo free");
    assert!(
        said.contains("/proc is not mounted") && said.ends_with("125\nfree\n"),
        "{said}"
    );
    let said = without_proc("$RL bus get --ttl 1h 2>&1; echo $?; $RL bus state -q || echo free");
    if kernel_tells_namespaces() {
        assert!(said.ends_with("\n0\n"), "{said}");
    } else {
        assert!(
            said.contains("/proc is not mounted") && said.ends_with("125\nfree\n"),
            "{said}"
        );
    }
}

/// Since Linux 6.11 it can be asked for a process's namespaces without /proc.
fn kernel_tells_namespaces() -> bool {
    let release = nix::sys::utsname::uname().unwrap().release().to_owned();
    let release = release.into_string().unwrap();
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(11))
}
