//! TLS in front of a scripted server: what a copytool encrypts, the server reads in the clear, and the other way round.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use coordinatool::security::Psk;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::AlwaysResolvesServerRawPublicKeys;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, ServerConfig, ServerConnection, SignatureScheme,
};

/// Listens, and hands every connection on to `backend`. Lives until the test program ends. Returns where it listens.
pub fn in_front_of(backend: String, key: &Path) -> String {
    let psk = Psk::read(key).unwrap();
    let provider = Arc::new(ring::default_provider());
    let holders = Holders { public: psk.client_public().unwrap(), provider: Arc::clone(&provider) };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(Arc::new(holders))
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(psk.server().unwrap())));
    config.alpn_protocols = vec![psk.alpn()];
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for front in listener.incoming() {
            let (front, back) = (front.unwrap(), TcpStream::connect(&backend).unwrap());
            let session = Arc::new(Mutex::new(ServerConnection::new(Arc::clone(&config)).unwrap()));
            let (front_in, back_out) = (front.try_clone().unwrap(), back.try_clone().unwrap());
            let decrypting = Arc::clone(&session);
            std::thread::spawn(move || {
                decrypt(&decrypting, front_in, back_out);
            });
            std::thread::spawn(move || encrypt(&session, back, front));
        }
    });
    address
}

/// From the copytool to the server, until either ends.
fn decrypt(session: &Mutex<ServerConnection>, mut front: TcpStream, mut back: TcpStream) {
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = front.read(&mut buffer) {
        let mut bytes = &buffer[..length];
        while !bytes.is_empty() {
            let mut session = session.lock().unwrap();
            session.read_tls(&mut bytes).unwrap();
            let processed = session.process_new_packets();
            while session.wants_write() {
                session.write_tls(&mut front).unwrap();
            }
            processed.unwrap();
            let mut plain = Vec::new();
            match session.reader().read_to_end(&mut plain) {
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                // The copytool said goodbye.
                Ok(_) => bytes = &[],
            }
            back.write_all(&plain).unwrap();
        }
    }
    let _ = back.shutdown(Shutdown::Both);
}

/// From the server to the copytool.
fn encrypt(session: &Mutex<ServerConnection>, mut back: TcpStream, mut front: TcpStream) {
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = back.read(&mut buffer) {
        let mut session = session.lock().unwrap();
        session.writer().write_all(&buffer[..length]).unwrap();
        while session.wants_write() {
            if session.write_tls(&mut front).is_err() {
                return;
            }
        }
    }
    let _ = front.shutdown(Shutdown::Both);
}

/// Whoever holds the key.
#[derive(Debug)]
struct Holders {
    public: SubjectPublicKeyInfoDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for Holders {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        shown: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        assert_eq!(shown.as_ref(), self.public.as_ref());
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        panic!("TLS 1.2")
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = SubjectPublicKeyInfoDer::from(shown.as_ref());
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature_with_raw_key(message, &key, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
