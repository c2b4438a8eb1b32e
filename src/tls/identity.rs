//! A certificate with its key and its authorities, read from files.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ServerConfig, client::Resumption, server::NoServerSessionStorage};

use super::peer::{Facts, Peer, Trust};
use super::verify::SignedClients;
use super::{Error, Paths};
use crate::security::files::{certificates, read_key};
use crate::security::handshake::{SignedServers, refused};

/// From when on the end of a certificate is warned about.
const WARN: Duration = Duration::from_secs(30 * 86_400);

/// Every connection proves everything anew.
pub(crate) fn no_resumption(mut config: ServerConfig) -> ServerConfig {
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config
}

/// Who we are: a certificate with its key, and whom we believe.
#[derive(Clone)]
pub struct Identity {
    key: Arc<CertifiedKey>,
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
    peer: Peer,
    /// File and end of each certificate.
    ends: Vec<(String, SystemTime, String)>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl Identity {
    /// Reads the files. Errors name the file. A certificate that has expired is read all the same, since it may be renewed
    /// while we run; [`Identity::warnings`] tells.
    pub fn load(paths: &Paths) -> Result<Self, Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let authorities = certificates(&paths.authority)?;
        let chain = certificates(&paths.certificate)?;
        let key = read_key(&paths.key)?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
            .map_err(|error| Error::file(&paths.key, format!("is not a private key: {error}")))?;
        let mut roots = RootCertStore::empty();
        let mut ends = Vec::new();
        for authority in &authorities {
            roots.add(authority.clone()).map_err(|error| Error::file(&paths.authority, error))?;
            let facts = Facts::of(authority).map_err(|error| Error::file(&paths.authority, error))?;
            ends.push((paths.authority.display().to_string(), facts.until, facts.until_text));
        }
        let [own, ..] = chain.as_slice() else {
            return Err(Error::file(&paths.certificate, "holds no certificate"));
        };
        let facts = Facts::of(own).map_err(|error| Error::file(&paths.certificate, error))?;
        ends.push((paths.certificate.display().to_string(), facts.until, facts.until_text));
        let key = CertifiedKey::from_der(chain, key, &provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                Error::file(&paths.key, format!("is not the key of {}", paths.certificate.display()))
            }
            error => Error::file(&paths.key, error),
        })?;
        ends.dedup();
        Ok(Self { key: Arc::new(key), roots: Arc::new(roots), provider, peer: facts.peer, ends })
    }

    /// As which the other side sees us.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// What ends within 30 days, or has ended, or is wrong in another way that others will not accept.
    pub fn warnings(&self, now: SystemTime) -> Vec<String> {
        let mut warnings = Vec::new();
        for (file, until, date) in &self.ends {
            match until.duration_since(now) {
                Err(_) => warnings.push(format!("{file} expired on {date}")),
                Ok(left) if left < WARN => {
                    warnings.push(format!("{file} expires on {date}, in {} days", left.as_secs() / 86_400));
                }
                Ok(_) => {}
            }
        }
        warnings
    }

    /// When the first of our certificates ends.
    pub fn expires(&self) -> Option<SystemTime> {
        self.ends.iter().map(|(_, until, _)| *until).min()
    }

    /// How an agent listens: only managers get through.
    pub fn server_config(&self, trust: &Trust) -> Result<ServerConfig, Error> {
        let trust = trust.clone();
        self.server_config_for(move |peer| peer.may_command(&trust))
    }

    /// How to listen for those in whom `admits` finds nothing wrong.
    pub fn server_config_for(
        &self,
        admits: impl Fn(&Peer) -> Result<(), String> + Send + Sync + 'static,
    ) -> Result<ServerConfig, Error> {
        let check = move |certificate: &CertificateDer<'_>| {
            Facts::of(certificate).and_then(|facts| admits(&facts.peer)).map_err(refused)
        };
        let verifier =
            SignedClients::new(self.roots.clone(), self.provider.clone(), check).map_err(Error::other)?;
        let config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(Error::other)?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::new(self.resolver()));
        Ok(no_resumption(config))
    }

    /// How a manager connects: only the agent with one of these names gets through (the host's name, and the address it is
    /// configured with).
    pub fn client_config(&self, expected: &[&str], trust: &Trust) -> Result<ClientConfig, Error> {
        let expected: Vec<String> = expected.iter().map(|name| (*name).to_owned()).collect();
        let trust = trust.clone();
        // The name that was dialled does not matter: an address may have moved to another host.
        let check = move |certificate: &CertificateDer<'_>, _: &ServerName<'_>| {
            Facts::of(certificate).and_then(|facts| facts.peer.may_obey(&expected, &trust)).map_err(refused)
        };
        let verifier = SignedServers::new(self.roots.clone(), self.provider.clone(), check);
        let mut config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(Error::other)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(self.resolver()));
        config.resumption = Resumption::disabled();
        config.enable_early_data = false;
        config.enable_sni = false;
        Ok(config)
    }

    fn resolver(&self) -> SingleCertAndKey {
        SingleCertAndKey::from(self.key.clone())
    }
}
