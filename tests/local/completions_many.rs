//! Completion of locks' names where there are very many locks: states only of so many as are looked at in no time.

use crate::common::machine::{Machine, ROOT, finished};
use std::fs;

#[test]
fn states_of_a_thousand_at_most() {
    Machine::run(|machine| {
        let taken = finished(machine.command(ROOT).args(["model", "get", "-m", "in order"]));
        assert!(taken.status.success(), "{taken:?}");
        let semaphore = fs::read("/dev/shm/sem.model").unwrap();
        let make = |name: &str| {
            fs::write(format!("/dev/shm/sem.{name}"), &semaphore).unwrap();
            fs::write(format!("/dev/shm/{name}"), "").unwrap();
        };
        let offered = |typed: &str| {
            let output = finished(machine.command(ROOT).args(["completions", "fish", "--", typed]));
            assert!(output.status.success(), "{output:?}");
            let text = String::from_utf8(output.stdout).unwrap();
            let locks = text
                .lines()
                .filter(|line| line.starts_with("many-") || line.starts_with("model"));
            locks.map(str::to_owned).collect::<Vec<_>>()
        };
        for number in 1..1000 {
            make(&format!("many-{number}"));
        }
        let all = offered("");
        assert_eq!(all.len(), 1000);
        assert!(all.iter().all(|line| line.contains("\theld")), "{all:?}");

        make("many-1000");
        let all = offered("");
        assert_eq!(all.len(), 1001);
        assert!(all.iter().all(|line| line.ends_with('\t')), "{all:?}");
        // Of those that begin as what is typed there are fewer.
        for (typed, count) in [("many-7", 111), ("mod", 1), ("many-99", 11)] {
            let fit = offered(typed);
            assert_eq!(fit.len(), count, "{fit:?}");
            assert!(fit.iter().all(|line| line.contains("\theld")), "{fit:?}");
        }
        // What is typed may stand in quotes: the shell chooses.
        assert_eq!(offered("'many-7").len(), 1001);
    });
}
