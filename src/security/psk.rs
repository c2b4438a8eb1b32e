//! A pre-shared key: a file that the daemon and its movers hold, and nobody else.
//!
//! Both ends derive the same two Ed25519 keys from it, one for the daemon and one for its peers (HKDF-SHA256, RFC 5869), and
//! show them as raw public keys (RFC 7250). Whoever signs with one of them holds the file. The exchange of session keys is
//! that of every TLS 1.3 connection, so that somebody who steals the file cannot read what was recorded before. Nothing in
//! it depends on clocks, and nothing is there to be replayed: each signature covers both ends' random numbers.
//!
//! The file is text: one line of base64, at least 32 random bytes; lines that begin with `#` are skipped.

use std::fmt;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hkdf;
use ring::rand::SecureRandom;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};
use rustls::sign::{CertifiedKey, SigningKey};

use super::ALPN_PSK;
use super::files::{self, FileError};

/// Bytes of a key at least, and in a new one.
pub const BYTES: usize = 32;
const MOST_BYTES: usize = 1024;
/// With fewer different bytes it is no random key: 32 random bytes have 30 on average, and next to never so few.
const DIFFERENT: usize = 12;

/// Changing any of these makes other keys: they belong to the protocol.
const SALT: &[u8] = b"coordinatool mover protocol, pre-shared key, version 1";
const SERVER: &[u8] = b"ed25519 server";
const CLIENT: &[u8] = b"ed25519 client";
const ID: &[u8] = b"key id";

/// PKCS #8 (RFC 8410) around the seed of an Ed25519 key.
const PKCS8_ED25519: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// What is derived from a key file.
#[derive(Clone)]
pub struct Psk {
    id: String,
    server: Arc<dyn SigningKey>,
    client: Arc<dyn SigningKey>,
}

impl fmt::Debug for Psk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Psk").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Psk {
    /// Reads a key file.
    ///
    /// # Errors
    /// Names the file, also where others may read it. Never shows what is in it.
    pub fn read(path: &Path) -> Result<Self, FileError> {
        let text = files::read_secret(path)?;
        Self::parse(&text).map_err(|what| FileError::new(path, what))
    }

    /// Reads the text of a key file.
    ///
    /// # Errors
    /// Says what is wrong, without the key.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let line = lines.next().ok_or("holds no key; `coordinatool-client psk new FILE` makes one")?;
        if lines.next().is_some() {
            return Err("holds more than one key".to_owned());
        }
        let secret = STANDARD.decode(line).map_err(|_| "is not one line of base64".to_owned())?;
        Self::derive(&secret)
    }

    fn derive(secret: &[u8]) -> Result<Self, String> {
        if !(BYTES..=MOST_BYTES).contains(&secret.len()) {
            return Err(format!("holds {} bytes; a key has {BYTES} to {MOST_BYTES}", secret.len()));
        }
        let mut seen = [false; 256];
        secret.iter().for_each(|byte| seen[usize::from(*byte)] = true);
        if seen.iter().filter(|seen| **seen).count() < DIFFERENT {
            return Err("is not random".to_owned());
        }
        let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, SALT).extract(secret);
        let expand = |info: &[u8]| -> Result<[u8; 32], String> {
            let mut out = [0; 32];
            let info = [info];
            let derived = extracted.expand(&info, hkdf::HKDF_SHA256);
            derived.and_then(|derived| derived.fill(&mut out)).map_err(|_| "cannot be used".to_owned())?;
            Ok(out)
        };
        let key = |info: &[u8]| -> Result<Arc<dyn SigningKey>, String> {
            let mut document = PKCS8_ED25519.to_vec();
            document.extend_from_slice(&expand(info)?);
            let document = PrivatePkcs8KeyDer::from(document);
            rustls::crypto::ring::sign::any_eddsa_type(&document).map_err(|error| error.to_string())
        };
        let id = expand(ID)?[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { id, server: key(SERVER)?, client: key(CLIENT)? })
    }

    /// What tells keys apart, and may be seen by anybody: 16 hexadecimal digits.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The ALPN name by which a client asks for this key.
    pub fn alpn(&self) -> Vec<u8> {
        format!("{ALPN_PSK}{}", self.id).into_bytes()
    }

    /// What the daemon shows.
    pub fn server(&self) -> Result<Arc<CertifiedKey>, rustls::Error> {
        certified(&self.server)
    }

    /// What movers and clients show.
    pub fn client(&self) -> Result<Arc<CertifiedKey>, rustls::Error> {
        certified(&self.client)
    }

    /// What a client expects of the daemon.
    pub(super) fn server_public(&self) -> Result<SubjectPublicKeyInfoDer<'static>, rustls::Error> {
        public(&self.server)
    }

    /// What the daemon expects of a client.
    pub fn client_public(&self) -> Result<SubjectPublicKeyInfoDer<'static>, rustls::Error> {
        public(&self.client)
    }
}

fn public(key: &Arc<dyn SigningKey>) -> Result<SubjectPublicKeyInfoDer<'static>, rustls::Error> {
    let public = key.public_key().ok_or_else(|| rustls::Error::General("no public key".to_owned()))?;
    Ok(public.into_owned())
}

fn certified(key: &Arc<dyn SigningKey>) -> Result<Arc<CertifiedKey>, rustls::Error> {
    // TLS carries a raw key where a certificate would be.
    let shown = CertificateDer::from(public(key)?.to_vec());
    Ok(Arc::new(CertifiedKey::new(vec![shown], Arc::clone(key))))
}

/// Writes a new key to a file that only its owner can read, and returns its id.
///
/// # Errors
/// Names the file; one that is there already is not overwritten.
pub fn create(path: &Path) -> Result<String, FileError> {
    let failed = |error: std::io::Error| FileError::new(path, error);
    let mut secret = [0; BYTES];
    let random = ring::rand::SystemRandom::new();
    random.fill(&mut secret).map_err(|_| FileError::new(path, "no random bytes from the system"))?;
    let psk = Psk::derive(&secret).map_err(|what| FileError::new(path, what))?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    let text = format!("# coordinatool pre-shared key {}\n{}\n", psk.id(), STANDARD.encode(secret));
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    Ok(psk.id)
}
