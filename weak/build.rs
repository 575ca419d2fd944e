//! Sets `cfg(weak)`, by which the project's files know that they are compiled here.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(weak)");
    println!("cargo::rustc-check-cfg=cfg(feature, values(\"remote\"))");
    println!("cargo::rustc-cfg=weak");
}
