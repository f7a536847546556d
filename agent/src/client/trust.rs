//! Whether a server is the cluster's, on a machine that may not know the time.
//!
//! A machine without a battery-backed clock boots in 1970, and to it every certificate begins in the future. But a certificate that the
//! cluster's authority signed shows that its beginning has passed: authorities do not sign ahead. So "not valid yet" is the verdict on this
//! machine's clock and not on the server, and is set aside. "Expired" stays: by the API server's time once it was heard, before that by
//! the wall clock or, if that is later, by the time at which this machine received its own certificate ([`Clock::now`]).

use std::sync::Arc;

use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use kube::client::ConfigExt;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::clock::Clock;

/// Certificates in a chain, each of which may begin after the others.
const LONGEST_CHAIN: usize = 4;

/// Connections to the server of a kubeconfig. One that names no authority, or says that it wants none, is left to kube.
pub fn https(
    config: &kube::Config,
    tcp: HttpConnector,
    clock: &Arc<Clock>,
) -> kube::Result<HttpsConnector<HttpConnector>> {
    let Some(roots) =
        config.root_cert.as_ref().filter(|_| !config.accept_invalid_certs && config.tls_server_name.is_none())
    else {
        return config.rustls_https_connector_with_connector(tcp);
    };
    let mut tls = config.rustls_client_config()?;
    if let Some(verifier) = Verifier::new(roots, Arc::clone(clock)) {
        tls.dangerous().set_certificate_verifier(Arc::new(verifier));
    }
    Ok(HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(tcp))
}

#[derive(Debug)]
struct Verifier {
    inner: Arc<WebPkiServerVerifier>,
    clock: Arc<Clock>,
}

impl Verifier {
    fn new(roots: &[Vec<u8>], clock: Arc<Clock>) -> Option<Self> {
        let mut store = RootCertStore::empty();
        for root in roots {
            store.add(CertificateDer::from(root.as_slice()).into_owned()).ok()?;
        }
        let inner = WebPkiServerVerifier::builder(Arc::new(store)).build().ok()?;
        Some(Self { inner, clock })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let seconds = u64::try_from(self.clock.now().as_second()).unwrap_or_default();
        let mut now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        let verify = |now| self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        for _ in 1..LONGEST_CHAIN {
            match verify(now) {
                Err(Error::InvalidCertificate(CertificateError::NotValidYetContext { not_before, .. })) => {
                    now = not_before;
                }
                verdict => return verdict,
            }
        }
        verify(now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
