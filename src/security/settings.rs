//! What movers and clients are configured with.

use std::fs::File;
use std::path::PathBuf;

use super::client::Credentials;
use super::{DEFAULT_TLS_PORT, server_name};

/// Keys of the configuration that movers and clients read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientSettings {
    /// Whether to use TLS.
    pub tls: bool,
    /// The daemon's port for it.
    pub port: String,
    /// The name in the daemon's certificate, if it is not the host's.
    pub server_name: Option<String>,
    authority: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    psk: Option<PathBuf>,
    psk_admin: Option<PathBuf>,
    psk_read_only: Option<PathBuf>,
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self {
            tls: false,
            port: DEFAULT_TLS_PORT.to_owned(),
            server_name: None,
            authority: None,
            certificate: None,
            key: None,
            psk: None,
            psk_admin: None,
            psk_read_only: None,
        }
    }
}

/// Whose keys to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asking {
    /// A mover's.
    Mover,
    /// The one that allows most of those that can be read.
    Anybody,
}

impl ClientSettings {
    /// Takes a key's value; `None` for a key that is not about security.
    pub fn set(&mut self, key: &str, value: &str) -> Option<Result<(), String>> {
        let place = match key {
            "tls" => {
                let on = match value.to_ascii_lowercase().as_str() {
                    "on" => true,
                    "off" => false,
                    _ => return Some(Err(format!("`{value}` is neither `on` nor `off`"))),
                };
                self.tls = on;
                return Some(Ok(()));
            }
            "tls_port" if value.is_empty() => return Some(Err("must not be empty".to_owned())),
            "tls_port" => {
                value.clone_into(&mut self.port);
                return Some(Ok(()));
            }
            "tls_server_name" => {
                let name = Some(value.to_owned()).filter(|name| !name.is_empty());
                let checked = name.as_deref().map_or(Ok(()), |name| server_name(name).map(drop));
                self.server_name = name;
                return Some(checked);
            }
            "tls_ca" => &mut self.authority,
            "tls_cert" => &mut self.certificate,
            "tls_key" => &mut self.key,
            "psk_file" => &mut self.psk,
            "psk_admin_file" => &mut self.psk_admin,
            "psk_read_only_file" => &mut self.psk_read_only,
            _ => return None,
        };
        if !value.is_empty() && !value.starts_with('/') {
            return Some(Err(format!("`{value}` is not an absolute path")));
        }
        // Empty takes back what the file says.
        *place = Some(PathBuf::from(value)).filter(|_| !value.is_empty());
        Some(Ok(()))
    }

    /// What to show; `None` without TLS. A certificate comes before keys.
    ///
    /// # Errors
    /// Says which keys of the configuration are missing.
    pub fn credentials(&self, asking: Asking) -> Result<Option<Credentials>, String> {
        if !self.tls {
            return Ok(None);
        }
        let parts = [("tls_ca", &self.authority), ("tls_cert", &self.certificate), ("tls_key", &self.key)];
        if let [Some(authority), Some(certificate), Some(key)] = parts.map(|(_, path)| path.clone()) {
            return Ok(Some(Credentials::Certificate { authority, certificate, key }));
        }
        let psk = match asking {
            Asking::Mover => self.psk.clone(),
            Asking::Anybody => {
                let all = [&self.psk_admin, &self.psk, &self.psk_read_only].into_iter().flatten();
                let readable = all.clone().find(|path| File::open(path).is_ok());
                // What cannot be read is complained about when it is used.
                readable.or_else(|| all.clone().next()).cloned()
            }
        };
        let missing: Vec<&str> =
            parts.iter().filter(|(_, path)| path.is_none()).map(|(key, _)| *key).collect();
        match psk {
            Some(path) if missing.len() == 3 => Ok(Some(Credentials::Key(path))),
            _ if missing.len() < 3 => Err(format!(
                "`tls on`: a certificate needs tls_ca, tls_cert and tls_key; missing: {}",
                missing.join(", ")
            )),
            _ => Err("`tls on` needs tls_ca, tls_cert and tls_key, or psk_file".to_owned()),
        }
    }
}
