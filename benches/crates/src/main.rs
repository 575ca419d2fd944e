//! Other crates that lock between processes, without contention: for each line, the ns that a pair takes of each.
//! `benches/report/pair.rs` starts it with the path of a file for fd-lock and a name for named-lock.

use std::fs::File;
use std::hint::black_box;
use std::io::BufRead;
use std::time::Instant;

const PAIRS: u32 = 10_000;

fn time(mut pair: impl FnMut()) -> f64 {
    let start = Instant::now();
    for _ in 0..PAIRS {
        pair();
    }
    start.elapsed().as_secs_f64() * 1e9 / f64::from(PAIRS)
}

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let file = File::create(&words[1]).expect("the file can be made");
    let mut by_file = fd_lock::RwLock::new(file);
    let by_name = named_lock::NamedLock::create(&words[2]).expect("the lock can be made");
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        if line.expect("a line") != "go" {
            break;
        }
        let fd_lock = time(|| drop(black_box(by_file.write().expect("a lock"))));
        let named_lock = time(|| drop(black_box(by_name.lock().expect("a lock"))));
        println!("{fd_lock} {named_lock}");
    }
    let _ = std::fs::remove_file(&words[1]);
    let _ = std::fs::remove_file(std::env::temp_dir().join(format!("{}.lock", words[2])));
}
