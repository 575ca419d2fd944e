//! This machine.

/// Its name; empty if it cannot be read.
pub fn host_name() -> String {
    first_line("/proc/sys/kernel/hostname")
}

/// A number that it draws anew at each boot; empty if it cannot be read.
#[cfg(feature = "remote")]
pub(crate) fn boot_id() -> String {
    first_line("/proc/sys/kernel/random/boot_id")
}

fn first_line(path: &str) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().next().unwrap_or_default().to_owned()
}

/// The file with the certificates that it trusts, where distributions keep it.
#[cfg(feature = "tls")]
pub(crate) fn trusted_certificates() -> Option<&'static std::path::Path> {
    let places = [
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/cert.pem",
    ];
    places.into_iter().map(std::path::Path::new).find(|path| path.exists())
}
