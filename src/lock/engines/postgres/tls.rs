//! TLS with the server, by rustls.
//!
//! | `sslmode` | the server's certificate |
//! |---|---|
//! | `require` and weaker, no authority named | any |
//! | `require` and weaker with `sslrootcert`, `verify-ca` | signed by it, whatever name it bears |
//! | `verify-full` | the same, and for the host that was asked for |

use super::connect::HandshakeFailed;
use super::settings::{Encryption, Roots, Server, SslMode};
use crate::lock::engines::certificates::{self, unreadable};
use crate::lock::system::trusted_certificates;
use crate::{Error, Result};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use sha2::{Digest, Sha256, Sha384, Sha512};
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::config::Host;
use tokio_postgres::tls::{ChannelBinding, TlsConnect};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsConnector, rustls};

pub(super) struct Tls {
    config: Arc<ClientConfig>,
    /// The name matters.
    full: bool,
}

impl Tls {
    /// Reads the files that `encryption` names. The error says which is not as it has to be.
    pub(super) fn new(encryption: &Encryption) -> Result<Option<Self>> {
        let provider = Arc::new(ring::default_provider());
        let verifier = Arc::new(Verifier {
            chain: chain(encryption, &provider)?,
            full: encryption.mode == SslMode::VerifyFull,
            provider: provider.clone(),
        });
        let versions: &[&rustls::SupportedProtocolVersion] = match encryption.versions {
            (3, _) => &[&rustls::version::TLS13],
            (_, 2) => &[&rustls::version::TLS12],
            _ => &[&rustls::version::TLS12, &rustls::version::TLS13],
        };
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(|e| unreadable("use the TLS versions of", Path::new("the URL"), e))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match &encryption.own {
            Some((certificate, key)) => {
                let chain = certificates::read("read sslcert", certificate)?;
                let signer = private_key(key)?;
                let wrong = |e: rustls::Error| unreadable("use sslcert with this sslkey:", key, e);
                config.with_client_auth_cert(chain, signer).map_err(wrong)?
            }
            None => config.with_no_client_auth(),
        };
        config.enable_sni = encryption.names_server;
        Ok(Some(Self {
            config: Arc::new(config),
            full: encryption.mode == SslMode::VerifyFull,
        }))
    }

    /// What sets up TLS on one connection to this server.
    pub(super) fn handshake(&self, server: &Server) -> Handshake {
        let name = match &server.host {
            Host::Tcp(name) => ServerName::try_from(name.clone()).ok(),
            Host::Unix(_) => None,
        };
        // Unless it is to be checked, the address will do.
        let address = || server.address.filter(|_| !self.full);
        Handshake {
            connector: TlsConnector::from(self.config.clone()),
            name: name.or_else(|| address().map(|address| ServerName::IpAddress(address.into()))),
        }
    }
}

/// Sets up TLS on one connection.
pub(super) struct Handshake {
    connector: TlsConnector,
    /// The server's; `None`: it cannot stand in a certificate.
    name: Option<ServerName<'static>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> TlsConnect<S> for Handshake {
    type Stream = Encrypted<S>;
    type Error = HandshakeFailed;
    type Future = Pin<Box<dyn Future<Output = Result<Encrypted<S>, HandshakeFailed>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        let refused = |why: &dyn ToString| HandshakeFailed(io::Error::new(io::ErrorKind::InvalidData, why.to_string()));
        Box::pin(async move {
            let name = self
                .name
                .ok_or_else(|| refused(&"this name can stand in no certificate"))?;
            match self.connector.connect(name, stream).await {
                Ok(stream) => Ok(Encrypted(stream)),
                // Whatever rustls finds is what the two sides want of each other.
                Err(error) if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) => Err(refused(&error)),
                Err(error) => Err(HandshakeFailed(error)),
            }
        })
    }
}

/// A connection that is encrypted.
pub(super) struct Encrypted<S>(TlsStream<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> tokio_postgres::tls::TlsStream for Encrypted<S> {
    fn channel_binding(&self) -> ChannelBinding {
        let shown = self.0.get_ref().1.peer_certificates().and_then(|shown| shown.first());
        let binding = shown.and_then(|certificate| binding(certificate));
        binding.map_or_else(ChannelBinding::none, ChannelBinding::tls_server_end_point)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Encrypted<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, into)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Encrypted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Who checks chains; `None` = any chain will do.
fn chain(encryption: &Encryption, provider: &Arc<CryptoProvider>) -> Result<Option<Arc<WebPkiServerVerifier>>> {
    let file = match &encryption.roots {
        Roots::Any => return Ok(None),
        Roots::File(path) => path.clone(),
        Roots::System => {
            let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
            let usual = || trusted_certificates().map(Path::to_owned);
            named.or_else(usual).ok_or(Error::Unsupported {
                engine: "postgres",
                what: "sslrootcert=system: this system has no list of authorities".to_owned(),
            })?
        }
    };
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(certificates::read(ROOTS, &file)?);
    if added == 0 {
        return Err(unreadable(ROOTS, &file, "no certificate in it can be used"));
    }
    let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let builder = match &encryption.revoked {
        None => builder,
        Some(path) => {
            let fail = |e: pem::Error| unreadable("read sslcrl", path, e);
            let lists = CertificateRevocationListDer::pem_file_iter(path).map_err(fail)?;
            let lists: Vec<_> = lists.collect::<Result<_, _>>().map_err(fail)?;
            if lists.is_empty() {
                return Err(unreadable("read sslcrl", path, "there is no revocation list in it"));
            }
            builder.with_crls(lists).enforce_revocation_expiration()
        }
    };
    Ok(Some(builder.build().map_err(|e| unreadable(ROOTS, &file, e))?))
}

/// What is read, for a message.
const ROOTS: &str = "read sslrootcert";

/// A key that others can read is refused, as libpq does.
fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    use std::os::unix::fs::MetadataExt;
    const DOING: &str = "read sslkey";
    let file = path.metadata().map_err(|e| unreadable(DOING, path, e))?;
    let others = if file.uid() == 0 { 0o037 } else { 0o077 };
    if file.mode() & others != 0 {
        return Err(unreadable(DOING, path, "others can read this private key: chmod 600"));
    }
    PrivateKeyDer::from_pem_file(path).map_err(|e| match e {
        pem::Error::NoItemsFound => {
            let why = "there is no private key in it that can be read without a password";
            unreadable(DOING, path, why)
        }
        other => unreadable(DOING, path, other),
    })
}

#[derive(Debug)]
struct Verifier {
    chain: Option<Arc<WebPkiServerVerifier>>,
    full: bool,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        stapled: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        use rustls::Error::InvalidCertificate;
        let Some(chain) = &self.chain else {
            return Ok(ServerCertVerified::assertion());
        };
        // The name is looked at last: all else is as it should be then.
        match chain.verify_server_cert(certificate, between, name, stapled, now) {
            Err(InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.full => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// `tls-server-end-point` (RFC 5929): the certificate's hash, by the function of its own signature; with MD5 and SHA-1,
/// SHA-256 is used.
///
/// By hand, as tokio-postgres-rustls (0.14) has no channel binding for certificates signed with ECDSA and SHA-512.
fn binding(certificate: &[u8]) -> Option<Vec<u8>> {
    const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
    const ECDSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04];
    // Certificate ::= SEQUENCE { tbsCertificate SEQUENCE, signatureAlgorithm SEQUENCE { OBJECT IDENTIFIER … } … }
    let (whole, _) = element(0x30, certificate)?;
    let (_, rest) = element(0x30, whole)?;
    let (algorithm, _) = element(0x30, rest)?;
    let (algorithm, _) = element(0x06, algorithm)?;
    let hash = match (algorithm.strip_prefix(RSA), algorithm.strip_prefix(ECDSA)) {
        (Some([4 | 5 | 11]), _) | (_, Some([1] | [3, 2])) => Sha256::digest(certificate).to_vec(),
        (Some([12]), _) | (_, Some([3, 3])) => Sha384::digest(certificate).to_vec(),
        (Some([13]), _) | (_, Some([3, 4])) => Sha512::digest(certificate).to_vec(),
        _ => return None,
    };
    Some(hash)
}

/// The content of a DER element with this tag, and what follows it.
fn element(tag: u8, text: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&[first, length], rest) = text.split_first_chunk::<2>()?;
    if first != tag {
        return None;
    }
    let (length, rest) = if length < 0x80 {
        (usize::from(length), rest)
    } else {
        let digits = usize::from(length & 0x7f);
        let (number, rest) = rest.split_at_checked(digits).filter(|_| digits <= 4)?;
        let number = number
            .iter()
            .fold(0_usize, |number, digit| number << 8 | usize::from(*digit));
        (number, rest)
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_and_what_is_none() {
        assert_eq!(element(0x30, &[0x30, 2, 1, 2, 3]), Some((&[1, 2][..], &[3][..])));
        assert_eq!(element(0x30, &[0x30, 0x81, 1, 9]), Some((&[9][..], &[][..])));
        for wrong in [
            &[][..],
            &[0x30],
            &[0x31, 0],
            &[0x30, 2, 1],
            &[0x30, 0x85, 0, 0, 0, 0, 0],
        ] {
            assert_eq!(element(0x30, wrong), None, "{wrong:?}");
        }
        assert_eq!(binding(&[0x30, 0]), None);
    }
}
