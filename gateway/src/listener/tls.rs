//! TLS, for whoever has no proxy that does it: a certificate and its key, read again when they change.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use futures_util::stream::{self, StreamExt};
use poem::http::uri::Scheme;
use poem::listener::{Acceptor, AcceptorExt, RustlsCertificate, RustlsConfig};
use poem::web::{LocalAddr, RemoteAddr};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::metrics::{CredentialSource, Metrics, ReloadResult};

/// How often the files are looked at. What was replaced holds once two looks saw the same: a certificate and its key are
/// seldom written in the same instant.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A certificate with its key, and where they come from.
#[derive(Debug)]
pub struct Tls {
    files: Files,
    pair: Pair,
}

/// Why a certificate and its key cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key} = {}: {reason}", path.display())]
pub struct TlsError {
    key: &'static str,
    path: PathBuf,
    reason: String,
}

#[derive(Debug, Clone)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

/// What the files hold.
#[derive(Clone, PartialEq, Eq)]
struct Pair {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Tls {
    /// Reads both files and checks that they belong together.
    ///
    /// # Errors
    /// [`TlsError`] names the setting whose file is missing, holds nothing of the kind, or does not go with the other.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let files = Files { certificate: certificate.to_owned(), key: key.to_owned() };
        let pair = files.read()?;
        files.check(&pair)?;
        Ok(Self { files, pair })
    }

    /// Speaks TLS on what `inner` accepts. The handshake is made when the connection is first read from.
    pub fn on<A: Acceptor>(self, inner: A, metrics: Arc<Metrics>) -> impl Acceptor {
        Configured { inner, waited: false }.rustls(self.configurations(metrics).boxed())
    }

    /// The certificate, at once, and each one that replaces it.
    fn configurations(self, metrics: Arc<Metrics>) -> impl Stream<Item = RustlsConfig> + Send {
        let Self { files, pair } = self;
        let first = stream::iter([pair.configuration()]);
        let reloads = Reloads { files, tried: Ok(pair.clone()), seen: Ok(pair), metrics };
        first.chain(stream::unfold(reloads, async |mut reloads| Some((reloads.next().await, reloads))))
    }
}

impl Files {
    fn read(&self) -> Result<Pair, TlsError> {
        let certificate = std::fs::read(&self.certificate).map_err(|error| self.certificate_error(&error))?;
        let key = std::fs::read(&self.key).map_err(|error| self.key_error(&error))?;
        Ok(Pair { certificate, key })
    }

    fn check(&self, pair: &Pair) -> Result<(), TlsError> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&pair.certificate)
            .collect::<Result<_, _>>()
            .map_err(|error| self.certificate_error(&error))?;
        if chain.is_empty() {
            return Err(self.certificate_error(&"there is no certificate in PEM in it"));
        }
        let key = PrivateKeyDer::from_pem_slice(&pair.key)
            .map_err(|_| self.key_error(&"there is no private key in PEM without a password in it"))?;
        CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())
            .map(drop)
            .map_err(|error| self.key_error(&format!("it does not go with the certificate: {error}")))
    }

    fn certificate_error(&self, reason: &dyn ToString) -> TlsError {
        let path = self.certificate.clone();
        TlsError { key: "http.tls_certificate_file", path, reason: reason.to_string() }
    }

    fn key_error(&self, reason: &dyn ToString) -> TlsError {
        TlsError { key: "http.tls_key_file", path: self.key.clone(), reason: reason.to_string() }
    }
}

impl Pair {
    fn configuration(&self) -> RustlsConfig {
        let certificate = RustlsCertificate::new().cert(self.certificate.as_slice()).key(self.key.as_slice());
        RustlsConfig::new().fallback(certificate)
    }
}

impl std::fmt::Debug for Pair {
    /// Without the key.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Pair").finish_non_exhaustive()
    }
}

/// Looks for files that were replaced.
struct Reloads {
    files: Files,
    /// What the last look saw.
    seen: Result<Pair, TlsError>,
    /// What was last used, or found unusable.
    tried: Result<Pair, TlsError>,
    metrics: Arc<Metrics>,
}

impl Reloads {
    /// Waits for a pair that can be used; one that cannot leaves the one before in force.
    async fn next(&mut self) -> RustlsConfig {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let files = self.files.clone();
            let read = tokio::task::spawn_blocking(move || files.read()).await;
            let read = read.expect("reading a file does not panic");
            if read != self.seen {
                self.seen = read;
                continue;
            }
            if read == self.tried {
                continue;
            }
            self.tried = read;
            let checked = self.tried.as_ref().map_err(Clone::clone);
            match checked.and_then(|pair| self.files.check(pair).map(|()| pair.configuration())) {
                Ok(configuration) => {
                    self.metrics.count_reload(CredentialSource::Tls, ReloadResult::Changed);
                    tracing::info!("another certificate holds from now on");
                    return configuration;
                }
                Err(error) => {
                    self.metrics.count_reload(CredentialSource::Tls, ReloadResult::Failed);
                    tracing::warn!(%error, "the certificate that was replaced stays in force");
                }
            }
        }
    }
}

/// Accepts nothing before poem had the time to take the first configuration: it would refuse the connection.
struct Configured<A> {
    inner: A,
    waited: bool,
}

impl<A: Acceptor> Acceptor for Configured<A> {
    type Io = A::Io;

    fn local_addr(&self) -> Vec<LocalAddr> {
        self.inner.local_addr()
    }

    async fn accept(&mut self) -> io::Result<(Self::Io, LocalAddr, RemoteAddr, Scheme)> {
        if !self.waited {
            self.waited = true;
            // poem waits for a configuration beside this, and the first one is there already.
            tokio::task::yield_now().await;
        }
        self.inner.accept().await
    }
}
