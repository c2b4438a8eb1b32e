//! The daemon's certificates and pre-shared keys, read again when their files change.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::server::AlwaysResolvesServerRawPublicKeys;

use super::policy::{Access, Policy, Principal};
use crate::security::files::{self, Stamp};
use crate::security::handshake::OnlyThisKey;
use crate::security::{ALPN_CERTIFICATE, FileError, Psk};
use crate::tls::peer::Facts;
use crate::tls::{Identity, Paths, Peer, no_resumption};

/// Which files there are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sources {
    /// Certificates, if peers may come with them.
    pub certificate: Option<Paths>,
    /// Pre-shared keys and what their holders may do.
    pub keys: Vec<(PathBuf, Access)>,
}

impl Sources {
    fn stamps(&self) -> Vec<Stamp> {
        let paths = self.certificate.iter().flat_map(|p| [&p.authority, &p.certificate, &p.key]);
        paths.chain(self.keys.iter().map(|(path, _)| path)).map(|path| files::stamp(path)).collect()
    }
}

/// What the files held when they were last good.
#[derive(Debug)]
struct Loaded {
    certificate: Option<Identity>,
    keys: Vec<(Psk, Access)>,
}

impl Loaded {
    fn read(sources: &Sources) -> Result<Self, FileError> {
        let certificate = match &sources.certificate {
            Some(paths) => Some(Identity::load(paths).map_err(|error| match error {
                crate::tls::Error::File { path, what } => FileError { path, what },
                other => FileError::new(&paths.certificate, other),
            })?),
            None => None,
        };
        let mut keys: Vec<(Psk, Access)> = Vec::new();
        for (path, access) in &sources.keys {
            let psk = Psk::read(path)?;
            if keys.iter().any(|(other, _)| other.id() == psk.id()) {
                return Err(FileError::new(path, "holds the same key as the file of another role"));
            }
            keys.push((psk, *access));
        }
        Ok(Self { certificate, keys })
    }

    fn ids(&self) -> BTreeMap<String, Access> {
        self.keys.iter().map(|(psk, access)| (psk.id().to_owned(), *access)).collect()
    }
}

/// Certificates, keys and policy, shared by the thread that shakes hands and the one that serves.
#[derive(Debug, Clone)]
pub struct Credentials(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    sources: Sources,
    stamps: Vec<Stamp>,
    loaded: Loaded,
    policy: Arc<Policy>,
    /// By ALPN name: how to go on with a client that asks for it. Made anew when anything changes.
    configs: BTreeMap<Vec<u8>, Arc<ServerConfig>>,
}

impl Credentials {
    /// Reads the files for the first time. `policy`'s keys are filled in here.
    ///
    /// # Errors
    /// Names the file.
    pub fn open(sources: Sources, policy: Policy) -> Result<Self, FileError> {
        // Before the files are read: a change in between is seen the next time.
        let stamps = sources.stamps();
        let loaded = Loaded::read(&sources)?;
        let mut state = State { sources, stamps, loaded, policy: Arc::new(policy), configs: BTreeMap::new() };
        state.renew()?;
        Ok(Self(Arc::new(Mutex::new(state))))
    }

    /// What holds now.
    pub fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.state().policy)
    }

    /// What an operator should know: certificates that end soon or have ended.
    pub fn warnings(&self, now: SystemTime) -> Vec<String> {
        self.state().loaded.certificate.iter().flat_map(|identity| identity.warnings(now)).collect()
    }

    /// Takes another policy and other files. Nothing changes after an error.
    ///
    /// # Errors
    /// Names the file.
    pub fn reconfigure(&self, sources: Sources, policy: Policy) -> Result<(), FileError> {
        let stamps = sources.stamps();
        let loaded = Loaded::read(&sources)?;
        let mut state = self.state();
        (state.sources, state.stamps, state.loaded) = (sources, stamps, loaded);
        state.policy = Arc::new(policy);
        state.renew()
    }

    /// Reads the files again if they have changed; says so in the log. What was there before stays in use while they are no
    /// good. Blocks. Returns whether anything is different.
    pub fn refresh(&self) -> bool {
        let (sources, before) = {
            let state = self.state();
            (state.sources.clone(), state.stamps.clone())
        };
        let stamps = sources.stamps();
        if stamps == before {
            return false;
        }
        let read = Loaded::read(&sources);
        let mut state = self.state();
        if state.sources != sources {
            return false;
        }
        state.stamps = stamps;
        match read {
            Ok(loaded) => {
                state.loaded = loaded;
                match state.renew() {
                    Ok(()) => tracing::info!("TLS: certificates and keys were read again"),
                    Err(error) => tracing::warn!("TLS: {error}"),
                }
                true
            }
            Err(error) => {
                tracing::warn!("TLS: changed, but not in use: {error}");
                false
            }
        }
    }

    /// How to go on with a client that asks for one of these ALPN names. One that asks for none is taken for one with a
    /// certificate.
    pub fn config<'a>(&self, asked: Option<impl Iterator<Item = &'a [u8]>>) -> Option<Arc<ServerConfig>> {
        let state = self.state();
        match asked {
            None => state.configs.get(ALPN_CERTIFICATE).cloned(),
            Some(mut asked) => asked.find_map(|name| state.configs.get(name).cloned()),
        }
    }

    /// Any of them, for a client that asks for none of them: it is told so.
    pub fn any_config(&self) -> Option<Arc<ServerConfig>> {
        self.state().configs.values().next().cloned()
    }

    /// Who has shaken hands: the client's certificate or raw key, and the ALPN name that was agreed on.
    pub fn principal(&self, alpn: Option<&[u8]>, shown: &CertificateDer<'_>) -> Result<Principal, String> {
        let key = alpn.and_then(|name| std::str::from_utf8(name).ok());
        if let Some(id) = key.and_then(|name| name.strip_prefix(crate::security::ALPN_PSK)) {
            return Ok(Principal::Key { id: id.to_owned() });
        }
        Ok(Principal::Certificate(Box::new(Facts::of(shown)?.peer)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing is ever left half done in it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Makes everything that follows from what was read.
    fn renew(&mut self) -> Result<(), FileError> {
        let mut policy = Policy::clone(&self.policy);
        policy.keys = self.loaded.ids();
        self.policy = Arc::new(policy);
        let mut configs = BTreeMap::new();
        let paths = self.sources.certificate.as_ref();
        if let (Some(identity), Some(paths)) = (&self.loaded.certificate, paths) {
            let failed = |error: crate::tls::Error| FileError::new(&paths.certificate, error);
            let policy = Arc::clone(&self.policy);
            let known = move |peer: &Peer| policy.of_certificate(peer).map(drop);
            let config = identity.server_config_for(known).map_err(failed)?;
            configs.insert(ALPN_CERTIFICATE.to_vec(), with_alpn(config, ALPN_CERTIFICATE));
        }
        for (psk, _) in &self.loaded.keys {
            let failed = |error: rustls::Error| FileError::new(std::path::Path::new("psk_file"), error);
            let config = psk_config(psk).map_err(failed)?;
            configs.insert(psk.alpn(), with_alpn(config, &psk.alpn()));
        }
        self.configs = configs;
        Ok(())
    }
}

/// How to go on with a client that asked for this key.
fn psk_config(psk: &Psk) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = OnlyThisKey::new(psk.client_public()?, Arc::clone(&provider));
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(psk.server()?)));
    Ok(no_resumption(config))
}

fn with_alpn(mut config: ServerConfig, alpn: &[u8]) -> Arc<ServerConfig> {
    config.alpn_protocols = vec![alpn.to_vec()];
    Arc::new(config)
}
