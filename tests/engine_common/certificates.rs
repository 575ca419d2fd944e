//! Certificates for servers and clients, signed by their own authority. Made with the openssl command.

use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// An authority and the certificates that it has signed; removed on drop.
pub struct Certificates {
    folder: TempDir,
}

/// A certificate and its key as PEM files. The key has no password.
#[derive(Debug, Clone)]
pub struct Issued {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Certificates {
    /// Makes a new authority.
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("resourcelock-ca-").tempdir();
        let made = Self {
            folder: folder.expect("a folder"),
        };
        let request = ["-x509", "-subj", "/CN=authority", "-days", "30"];
        made.openssl(
            &[
                &["req"],
                &request[..],
                NEW_KEY,
                &["-keyout", "ca.key", "-out", "ca.crt"],
            ]
            .concat(),
        );
        made
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The authority's certificate.
    pub fn authority(&self) -> PathBuf {
        self.path().join("ca.crt")
    }

    /// Issues a certificate, valid for servers and clients, to `name` (the common name, and the files' name), for
    /// `places` such as `IP:127.0.0.1,DNS:localhost`.
    pub fn issue(&self, name: &str, places: &str) -> Issued {
        let [request, certificate, key] = ["csr", "crt", "key"].map(|kind| format!("{name}.{kind}"));
        let subject = format!("/CN={name}");
        let files = ["-keyout", &key, "-out", &request];
        self.openssl(&[&["req", "-subj", &subject], NEW_KEY, &files[..]].concat());
        let extensions = format!("subjectAltName={places}\nextendedKeyUsage=serverAuth,clientAuth\n");
        std::fs::write(self.path().join("extensions"), extensions).expect("a file");
        let signed = ["x509", "-req", "-in", &request, "-out", &certificate, "-days", "30"];
        let signer = [
            "-CA",
            "ca.crt",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-extfile",
            "extensions",
        ];
        self.openssl(&[&signed[..], &signer].concat());
        Issued {
            certificate: self.path().join(certificate),
            key: self.path().join(key),
        }
    }

    fn openssl(&self, arguments: &[&str]) {
        let output = Command::new("openssl")
            .current_dir(self.path())
            .args(arguments)
            .output()
            .expect("openssl runs; scripts/test.sh installs what these tests need");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {arguments:?}: {said}");
    }
}

const NEW_KEY: &[&str] = &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
