//! A site's certificates and keys, and peers that use them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use coordinatool::client::stream::{Stream, distrust};
use coordinatool::security::{Credentials, psk, server_name};
use coordinatool::tls::authority::Request;
use coordinatool::tls::{Authority, Paths, Role};
use coordinatool::wire::{Decoder, Limits};
use serde_json::Value;

use crate::daemon_support::{Daemon, PATIENCE, Setup};

pub const DAY: Duration = Duration::from_secs(86_400);

/// A directory with an authority, a certificate for the daemon, and keys.
pub struct Site {
    pub dir: tempfile::TempDir,
}

impl Site {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Authority::create(dir.path(), "lustre").unwrap();
        let site = Self { dir };
        let addresses = vec!["127.0.0.1".parse().unwrap()];
        site.issue(Request { addresses, ..Request::new("mgmt", Role::Server) });
        psk::create(&site.path("psk")).unwrap();
        psk::create(&site.path("admin.psk")).unwrap();
        site
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn issue(&self, request: Request) -> Credentials {
        let Paths { authority, certificate, key } =
            Authority::open(self.dir.path()).unwrap().issue(&request).unwrap();
        Credentials::Certificate { authority, certificate, key }
    }

    /// A certificate of a role.
    pub fn certificate(&self, name: &str, role: Role) -> Credentials {
        self.issue(Request::new(name, role))
    }

    pub fn key(&self, name: &str) -> Credentials {
        Credentials::Key(self.path(name))
    }

    /// The daemon's configuration: certificates and keys, and more lines.
    pub fn conf(&self, more: &str) -> String {
        let at = |name: &str| self.path(name).display().to_string();
        format!(
            "tls on\ntls_port 0\ntls_ca {}\ntls_cert {}\ntls_key {}\npsk_file {}\npsk_admin_file {}\n{more}",
            at("ca.crt"),
            at("mgmt.crt"),
            at("mgmt.key"),
            at("psk"),
            at("admin.psk")
        )
    }

    pub fn daemon(&self, more: &str) -> Daemon {
        Setup::conf(&self.conf(more)).start()
    }
}

/// The port for TLS.
pub fn tls_port(daemon: &Daemon) -> u16 {
    let line = daemon.wait_for_log("Listening for TLS on ");
    line.rsplit(':').next().unwrap().trim().parse().unwrap()
}

/// A peer with TLS.
pub struct Peer {
    pub stream: Stream,
    decoder: Decoder,
}

impl Peer {
    /// Shakes hands; the error is what the peer is told.
    pub fn connect(port: u16, credentials: &Credentials) -> Result<Self, String> {
        let config = Arc::new(credentials.load().unwrap());
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_nodelay(true).unwrap();
        let name = server_name("127.0.0.1").unwrap();
        let stream = Stream::tls(stream, config, name, PATIENCE)
            .map_err(|error| distrust(&error).unwrap_or_else(|| format!("no TLS error: {error}")))?;
        Ok(Self { stream, decoder: Decoder::new(Limits::default()) })
    }

    pub fn send(&mut self, text: &str) -> Result<(), String> {
        self.stream.write_all(text.as_bytes()).map_err(|error| error.to_string())
    }

    /// The next answer; an error when the connection ends.
    pub fn receive(&mut self) -> Result<Value, String> {
        let mut buffer = [0; 65536];
        loop {
            if let Some(object) = self.decoder.next_object().unwrap() {
                return Ok(serde_json::from_slice(object).unwrap());
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err("closed".to_owned()),
                Ok(length) => self.decoder.push(&buffer[..length]),
                Err(error) => return Err(distrust(&error).unwrap_or_else(|| error.to_string())),
            }
        }
    }

    pub fn ask(&mut self, text: &str) -> Result<Value, String> {
        self.send(text)?;
        self.receive()
    }
}

/// Connects and asks for the status: what the daemon, or TLS, says to that.
pub fn status(port: u16, credentials: &Credentials) -> Result<Value, String> {
    Peer::connect(port, credentials)?.ask(r#"{"command": "status"}"#)
}

/// Another authority's directory.
pub fn foreign() -> Site {
    Site::new()
}

/// A certificate of this site's authority without any URI of ours.
pub fn without_role(site: &Site, file: &str, names: &[String]) -> Credentials {
    let key = rcgen::KeyPair::from_pem(&std::fs::read_to_string(site.path("ca.key")).unwrap()).unwrap();
    let authority = std::fs::read_to_string(site.path("ca.crt")).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_pem(&authority, key).unwrap();
    let mut params = rcgen::CertificateParams::new(names.to_vec()).unwrap();
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let own = rcgen::KeyPair::generate().unwrap();
    write(&site.path(&format!("{file}.crt")), &params.signed_by(&own, &issuer).unwrap().pem());
    write(&site.path(&format!("{file}.key")), &own.serialize_pem());
    Credentials::Certificate {
        authority: site.path("ca.crt"),
        certificate: site.path(&format!("{file}.crt")),
        key: site.path(&format!("{file}.key")),
    }
}

fn write(path: &Path, text: &str) {
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}
