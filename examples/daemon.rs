//! A daemon that is the only one at its device while it runs, and whose threads take turns with other programs at a bus.
//!
//! ```sh
//! cargo run --example daemon device bus 3
//! ```
//!
//! The guard of the device lives in the daemon's own struct, beside what it protects. Each thread has a clone of the bus's
//! handle; a clone is the same handle, and cheap.

use resourcelock::{Guard, ResourceLock, Result};
use std::process::ExitCode;
use std::thread::JoinHandle;

struct Daemon {
    /// Held as long as the daemon lives.
    device: Guard,
    bus: ResourceLock,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl Daemon {
    fn start(device: &str, bus: &str) -> Result<Self> {
        let device = ResourceLock::open(device)?.acquire()?; // the guard needs no handle any more
        if device.abandoned() {
            // The last daemon died in the middle of its work.
            println!("repairing what the last one left");
            device.mark_recovered()?;
        }
        let bus = ResourceLock::open(bus)?;
        Ok(Self {
            device,
            bus,
            threads: Vec::new(),
        })
    }

    fn poll_sensor(&mut self, sensor: u32) {
        let bus = self.bus.clone();
        self.threads.push(std::thread::spawn(move || {
            for _ in 0..3 {
                let turn = bus.acquire()?; // in turn with the other threads, and other programs
                println!("sensor {sensor} read under token {}", turn.token());
            }
            Ok(())
        }));
    }

    fn end(self) -> Result<()> {
        for thread in self.threads {
            thread.join().expect("the thread has not panicked")?;
        }
        if let Some(how) = self.device.lost() {
            println!("the device was taken away: {how}");
        }
        Ok(())
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [device, bus, sensors] = arguments.as_slice() else {
        eprintln!("usage: daemon DEVICE BUS SENSORS");
        return ExitCode::from(2);
    };
    let run = || {
        let mut daemon = Daemon::start(device, bus)?;
        for sensor in 0..sensors.parse().unwrap_or(1) {
            daemon.poll_sensor(sensor);
        }
        daemon.end()
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("daemon: {}", error.with_source());
            ExitCode::FAILURE
        }
    }
}
