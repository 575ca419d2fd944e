//! quick bench
use resourcelock::*;
use std::time::Instant;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let name = format!("bench-{}", std::process::id());
    if a.get(1).map(|s| s == "worker").unwrap_or(false) {
        let l = ResourceLock::open(&a[2]).unwrap();
        let secs: f64 = a[3].parse().unwrap();
        let end = Instant::now() + std::time::Duration::from_secs_f64(secs);
        let mut n = 0u64;
        while Instant::now() < end {
            for _ in 0..10 {
                assert!(l.get_lock(GetOptions::new().wait(Wait::Forever)).unwrap());
                l.unget_lock(UngetOptions::new()).unwrap();
                n += 1;
            }
        }
        println!("{n}");
        return;
    }
    let l = ResourceLock::open(&name).unwrap();
    for _ in 0..3 {
        let n = 1_000_000;
        let t = Instant::now();
        for _ in 0..n {
            l.get_lock(GetOptions::new()).unwrap();
            l.unget_lock(UngetOptions::new()).unwrap();
        }
        println!("pair {:?}", t.elapsed() / n);
    }
    for procs in [1, 2, 8, 32] {
        let t = Instant::now();
        let kids: Vec<_> = (0..procs)
            .map(|_| {
                std::process::Command::new(std::env::current_exe().unwrap())
                    .args(["worker", &name, "1.5"])
                    .stdout(std::process::Stdio::piped())
                    .spawn()
                    .unwrap()
            })
            .collect();
        let mut v: Vec<u64> = kids
            .into_iter()
            .map(|k| {
                String::from_utf8(k.wait_with_output().unwrap().stdout)
                    .unwrap()
                    .trim()
                    .parse()
                    .unwrap()
            })
            .collect();
        v.sort();
        let s: u64 = v.iter().sum();
        println!(
            "{procs}: {:.3} M/s min {} max {} in {:?}",
            s as f64 / 1.5 / 1e6,
            v[0],
            v[v.len() - 1],
            t.elapsed()
        );
    }
    l.close();
    remove(&name, true).unwrap();
}
