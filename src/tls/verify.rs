//! Clients that are let in: signed by our authority, valid now, and what more the caller asks for.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};

use crate::security::handshake::no_tls12;

/// Lets clients in that have a certificate of our authority, if `check` finds nothing against it.
pub(crate) struct SignedClients<C> {
    signed: Arc<dyn ClientCertVerifier>,
    check: C,
}

impl<C> SignedClients<C>
where
    C: Fn(&CertificateDer<'_>) -> Result<(), rustls::Error> + Send + Sync,
{
    /// Clients of these authorities.
    ///
    /// # Errors
    /// There is no authority.
    pub fn new(
        roots: Arc<RootCertStore>,
        provider: Arc<CryptoProvider>,
        check: C,
    ) -> Result<Self, VerifierBuilderError> {
        let signed = WebPkiClientVerifier::builder_with_provider(roots, provider).build()?;
        Ok(Self { signed, check })
    }
}

impl<C> fmt::Debug for SignedClients<C> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("SignedClients").finish_non_exhaustive()
    }
}

impl<C> ClientCertVerifier for SignedClients<C>
where
    C: Fn(&CertificateDer<'_>) -> Result<(), rustls::Error> + Send + Sync,
{
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.signed.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.signed.verify_client_cert(certificate, intermediates, now)?;
        (self.check)(certificate)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signed.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signed.supported_verify_schemes()
    }
}
