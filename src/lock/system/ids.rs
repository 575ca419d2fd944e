//! Which numbers of users and groups say who is meant: in a user namespace, all users whom it does not know have one and
//! the same number.

use std::sync::OnceLock;

/// What the kernel shows in place of such a number, unless it was set otherwise (proc(5)).
const OVERFLOW: u32 = 65_534;

/// True if this number is one user's.
pub(crate) fn is_user(uid: u32) -> bool {
    static OVERFLOW: OnceLock<u32> = OnceLock::new();
    let overflow = *OVERFLOW.get_or_init(|| overflow("/proc/sys/kernel/overflowuid"));
    uid != overflow || maps_everybody("/proc/self/uid_map")
}

/// True if this number is one group's.
pub(crate) fn is_group(gid: u32) -> bool {
    static OVERFLOW: OnceLock<u32> = OnceLock::new();
    let overflow = *OVERFLOW.get_or_init(|| overflow("/proc/sys/kernel/overflowgid"));
    gid != overflow || maps_everybody("/proc/self/gid_map")
}

fn overflow(path: &str) -> u32 {
    let set = std::fs::read_to_string(path).ok();
    set.and_then(|text| text.trim().parse().ok()).unwrap_or(OVERFLOW)
}

/// False where that cannot be read.
fn maps_everybody(path: &str) -> bool {
    std::fs::read_to_string(path).is_ok_and(|map| is_whole(&map))
}

/// Of user_namespaces(7): a line is where a range begins, where it begins in the parent, and its length.
fn is_whole(map: &str) -> bool {
    map.lines().any(|line| {
        let mut fields = line.split_whitespace();
        fields.next() == Some("0") && fields.nth(1).and_then(|count| count.parse().ok()) == Some(u32::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_known_in_the_first_namespace_only() {
        assert!(is_whole("         0          0 4294967295\n"));
        for partial in [
            "",
            "0 1000 1\n",
            "0 1000 1\n1 100000 65536\n",
            "0 100000 65536",
            "1 1 4294967295",
            "x",
        ] {
            assert!(!is_whole(partial), "{partial:?}");
        }
        assert!(is_user(0) && is_user(1000) && is_group(0));
    }
}
