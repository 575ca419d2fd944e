//! Computes medians and prints them.

/// The table's head.
pub const HEAD: &str =
    "figure                                                    ours         peer      ratio   target";

/// The processor's name.
pub fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name"));
    name.map_or("unknown".to_owned(), |name| {
        name.trim_start_matches([' ', '\t', ':']).to_owned()
    })
}

/// How many processors this process may use.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The value below which `share` (0 to 1) of the values lie.
pub fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    values
        .get((last as f64 * share).round() as usize)
        .copied()
        .unwrap_or(f64::NAN)
}

/// The middle value.
pub fn median(values: &mut [f64]) -> f64 {
    quantile(values, 0.5)
}

/// Prints one figure; `target` is what the ratio, or else the figure itself, should be.
pub fn print(figure: &str, ours: f64, peer: Option<f64>, unit: &str, target: &str) {
    let with_unit = |value: f64| format!("{value:.3} {unit}");
    let ratio = peer.map_or(String::new(), |peer| format!("{:.2} x", ours / peer));
    let peer = peer.map_or(String::new(), with_unit);
    println!("{figure:<50} {:>12} {peer:>12} {ratio:>10}   {target}", with_unit(ours));
}
