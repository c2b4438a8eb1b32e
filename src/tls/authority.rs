//! A small certificate authority, for a site without one: a directory with a certificate and a key.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

use super::{Error, Identity, Paths, Role};
use crate::security::files;

/// Certificates begin this long before they are issued, for clocks that are behind.
const SLOW_CLOCKS: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// A certificate authority that lives in a directory: `ca.crt` and `ca.key`.
pub struct Authority {
    directory: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("directory", &self.directory).finish_non_exhaustive()
    }
}

/// A certificate to be issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The host's name as in the configuration, without a port; or an address.
    pub name: String,
    /// More names.
    pub other_names: Vec<String>,
    /// Addresses.
    pub addresses: Vec<IpAddr>,
    /// What it may be used for.
    pub role: Role,
    /// From when on it is valid.
    pub from: SystemTime,
    /// For how long.
    pub valid: Duration,
    /// Replace what is there: the files change one after the other, and who reads them meanwhile keeps what it had.
    pub renew: bool,
}

impl Request {
    /// For this name only, from an hour ago for two years.
    pub fn new(name: &str, role: Role) -> Self {
        Self {
            name: name.to_owned(),
            other_names: Vec::new(),
            addresses: Vec::new(),
            role,
            from: SystemTime::now() - SLOW_CLOCKS,
            valid: 2 * 365 * DAY,
            renew: false,
        }
    }
}

impl Authority {
    /// Makes an authority for a cluster, valid for ten years, in a directory that is made if it is not there. Fails if there
    /// is one already.
    pub fn create(directory: &Path, cluster: &str) -> Result<Self, Error> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(|error| Error::file(directory, error))?;
        let from = SystemTime::now() - SLOW_CLOCKS;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, format!("{cluster} coordinatool CA"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = from.into();
        params.not_after = (from + 3653 * DAY).into();
        let key = KeyPair::generate().map_err(Error::other)?;
        let certificate = params.self_signed(&key).map_err(Error::other)?;
        let paths = Self::paths(directory);
        if paths.certificate.exists() {
            return Err(Error::Exists(paths.certificate));
        }
        write(&paths.key, &key.serialize_pem(), 0o600, false)?;
        write(&paths.certificate, &certificate.pem(), 0o644, false)?;
        Ok(Self { directory: directory.to_owned(), issuer: Issuer::new(params, key) })
    }

    /// Opens the authority in a directory.
    pub fn open(directory: &Path) -> Result<Self, Error> {
        let paths = Self::paths(directory);
        let key = KeyPair::from_pem(&files::read_key(&paths.key)?)
            .map_err(|error| Error::file(&paths.key, error))?;
        let certificate = files::read(&paths.certificate)?;
        let issuer = Issuer::from_ca_cert_pem(&certificate, key)
            .map_err(|error| Error::file(&paths.certificate, error))?;
        // The certificate and the key must belong together.
        Identity::load(&paths)?;
        Ok(Self { directory: directory.to_owned(), issuer })
    }

    /// Issues a certificate: `NAME.crt` and `NAME.key` beside the authority's. The files of a host, with `ca.crt`, are then
    /// copied to it. Fails if they are there already; with [`Request::renew`] if neither is.
    pub fn issue(&self, request: &Request) -> Result<Paths, Error> {
        let name = &request.name;
        let as_file = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':');
        if !name.bytes().all(as_file) || name.starts_with(['.', '-']) || name == "ca" {
            return Err(Error::Name(name.clone()));
        }
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name.as_str());
        for name in std::iter::once(name).chain(&request.other_names) {
            params.subject_alt_names.push(alternative_name(name)?);
        }
        params.subject_alt_names.extend(request.addresses.iter().copied().map(SanType::IpAddress));
        let uri = request.role.uri().try_into().map_err(Error::other)?;
        params.subject_alt_names.push(SanType::URI(uri));
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = match request.role {
            Role::Agent => vec![ExtendedKeyUsagePurpose::ServerAuth],
            Role::Server => vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
            Role::Manager | Role::Admin | Role::Mover | Role::ReadOnly => {
                vec![ExtendedKeyUsagePurpose::ClientAuth]
            }
        };
        params.not_before = request.from.into();
        params.not_after = (request.from + request.valid).into();
        let key = KeyPair::generate().map_err(Error::other)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(Error::other)?;
        let paths = Paths::in_directory(&self.directory, name);
        if !request.renew
            && let Some(there) = [&paths.certificate, &paths.key].into_iter().find(|path| path.exists())
        {
            return Err(Error::Exists(there.clone()));
        }
        // A name that was mistyped must not become a certificate of its own. In the middle of a renewal one of the two is there.
        if request.renew && !paths.certificate.exists() && !paths.key.exists() {
            return Err(Error::NothingToRenew(paths.certificate));
        }
        write(&paths.key, &key.serialize_pem(), 0o600, request.renew)?;
        write(&paths.certificate, &certificate.pem(), 0o644, request.renew)?;
        Ok(paths)
    }

    /// The files of the authority's own certificate.
    pub fn paths(directory: &Path) -> Paths {
        Paths::in_directory(directory, "ca")
    }
}

fn alternative_name(name: &str) -> Result<SanType, Error> {
    if let Ok(address) = name.parse() {
        return Ok(SanType::IpAddress(address));
    }
    let is_name = rustls::pki_types::DnsName::try_from(name).is_ok() && !name.ends_with('.');
    let wrong = || Error::Name(name.to_owned());
    let dns = name.try_into().map_err(|_| wrong())?;
    if is_name { Ok(SanType::DnsName(dns)) } else { Err(wrong()) }
}

/// Writes a file so that there is either nothing, what was there before, or all of it.
fn write(path: &Path, text: &str, mode: u32, replace: bool) -> Result<(), Error> {
    let failed = |error| Error::file(path, error);
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    let temporary = PathBuf::from(name);
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        if replace { fs::rename(&temporary, path) } else { fs::hard_link(&temporary, path) }
    })();
    if !replace || written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    match written {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(Error::Exists(path.to_owned())),
        written => written.map_err(failed)?,
    }
    let directory = path.parent().unwrap_or(Path::new("."));
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)
}
