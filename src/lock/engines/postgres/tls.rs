//! TLS with the server, by rustls.
//!
//! | `sslmode` | the server's certificate |
//! |---|---|
//! | `require` and weaker, no authority named | any |
//! | `require` and weaker with `sslrootcert`, `verify-ca` | signed by that authority, for whatever name |
//! | `verify-full` | the same, for the host that is connected to |

use super::channel_binding;
use super::connect::HandshakeFailed;
use super::encryption::{Encryption, Roots, SslMode};
use super::settings::Server;
use crate::lock::engines::certificates::{self, unreadable};
use crate::lock::system::trusted_certificates;
use crate::lock::types::{Error, Result};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
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
    /// The certificate has to be for the server's name.
    full: bool,
}

impl Tls {
    /// Reads the files that `encryption` names. The error says which of them cannot be used.
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
        // If nobody checks the name, the address will do.
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
    /// The server's; `None`: no certificate can be for it.
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
                .ok_or_else(|| refused(&"no certificate can be for this name"))?;
            match self.connector.connect(name, stream).await {
                Ok(stream) => Ok(Encrypted(stream)),
                // Whatever rustls finds fault with is not due to the connection.
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
        let binding = shown.and_then(|certificate| channel_binding::end_point(certificate));
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

/// What checks chains; `None` = any chain will do.
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

/// What is done with the authorities, for a message.
const ROOTS: &str = "read sslrootcert";

/// Reads a private key. One that others can read is refused, as in libpq.
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
        // The name is checked last: everything else is in order then.
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
