//! How movers and clients connect: what they show, and whom they believe.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};

use super::files::{self, FileError};
use super::handshake::{OnlyThisKey, SignedServers, refused};
use super::{ALPN_CERTIFICATE, OUR_URIS, Psk, SERVER_URI};

/// What to prove who we are with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A certificate.
    Certificate {
        /// Certificates of the authorities that the daemon's may come from (PEM).
        authority: PathBuf,
        /// Our own, followed by intermediate ones if there are any (PEM).
        certificate: PathBuf,
        /// Its key (PEM).
        key: PathBuf,
    },
    /// A pre-shared key.
    Key(PathBuf),
}

impl Credentials {
    /// The files.
    pub fn files(&self) -> Vec<&Path> {
        match self {
            Self::Certificate { authority, certificate, key } => vec![authority, certificate, key],
            Self::Key(path) => vec![path],
        }
    }

    /// Reads the files.
    ///
    /// # Errors
    /// Names the file.
    pub fn load(&self) -> Result<ClientConfig, FileError> {
        match self {
            Self::Certificate { authority, certificate, key } => {
                certificate_config(authority, certificate, key)
            }
            Self::Key(path) => {
                let psk = Psk::read(path)?;
                psk_config(&psk).map_err(|error| FileError::new(path, error))
            }
        }
    }
}

/// The name in the daemon's certificate, for a host as configured.
///
/// # Errors
/// Says that it is no name.
pub fn server_name(host: &str) -> Result<ServerName<'static>, String> {
    let host = host.trim_end_matches('.').to_owned();
    let shown = host.clone();
    ServerName::try_from(host).map_err(|_| format!("`{shown}` is neither a name nor an address"))
}

/// What an error of TLS means to whoever configured this end.
pub fn explain(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidMessage(_) => {
            format!("what answers does not speak TLS (is this the plain port?): {error}")
        }
        rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol) => {
            "the server does not know our pre-shared key, or takes no certificates".to_owned()
        }
        rustls::Error::AlertReceived(
            alert @ (AlertDescription::AccessDenied
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRequired
            | AlertDescription::CertificateUnknown
            | AlertDescription::DecryptError
            | AlertDescription::UnknownCA
            | AlertDescription::UnsupportedCertificate),
        ) => format!("the server does not accept our certificate or key ({alert:?}); its log says why"),
        rustls::Error::AlertReceived(alert) => format!("the server ended TLS: {alert:?}"),
        rustls::Error::InvalidCertificate(CertificateError::Other(reason)) => {
            format!("the server's certificate: {}", reason.0)
        }
        rustls::Error::InvalidCertificate(reason) => format!("the server's certificate: {reason}"),
        error => error.to_string(),
    }
}

fn builder(
    provider: &Arc<CryptoProvider>,
) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, rustls::Error> {
    ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
}

fn finish(mut config: ClientConfig, alpn: Vec<u8>) -> ClientConfig {
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config.enable_sni = false;
    config.alpn_protocols = vec![alpn];
    config
}

fn certificate_config(authority: &Path, certificate: &Path, key: &Path) -> Result<ClientConfig, FileError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for root in files::certificates(authority)? {
        roots.add(root).map_err(|error| FileError::new(authority, error))?;
    }
    let chain = files::certificates(certificate)?;
    let text = files::read_key(key)?;
    let private = PrivateKeyDer::from_pem_slice(text.as_bytes())
        .map_err(|error| FileError::new(key, format!("is not a private key: {error}")))?;
    let own = CertifiedKey::from_der(chain, private, &provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            FileError::new(key, format!("is not the key of {}", certificate.display()))
        }
        error => FileError::new(key, error),
    })?;
    let config = builder(&provider)
        .map_err(|error| FileError::new(certificate, error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(SignedServers::new(Arc::new(roots), provider, is_daemon)))
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own)));
    Ok(finish(config, ALPN_CERTIFICATE.to_vec()))
}

fn psk_config(psk: &Psk) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = OnlyThisKey::new(psk.server_public()?, Arc::clone(&provider));
    let config = builder(&provider)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(psk.client()?)));
    Ok(finish(config, psk.alpn()))
}

/// The name is the one that was dialled. Our authority says what a certificate is for: an agent of high availability is no
/// daemon for movers.
fn is_daemon(certificate: &CertificateDer<'_>, dialled: &ServerName<'_>) -> Result<(), rustls::Error> {
    verify_server_name(&ParsedCertificate::try_from(certificate)?, dialled)?;
    let entity = webpki::EndEntityCert::try_from(certificate)
        .map_err(|_| rustls::Error::InvalidCertificate(CertificateError::BadEncoding))?;
    let mut ours = entity.valid_uri_names().filter(|uri| uri.starts_with(OUR_URIS)).peekable();
    if ours.peek().is_some() && !ours.any(|uri| uri == SERVER_URI) {
        return Err(refused("it is not for the role server"));
    }
    Ok(())
}
