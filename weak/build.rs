//! Tells the project's files that they are compiled here: see `cfg(weak)` there.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(weak)");
    println!("cargo::rustc-check-cfg=cfg(feature, values(\"remote\"))");
    println!("cargo::rustc-cfg=weak");
}
