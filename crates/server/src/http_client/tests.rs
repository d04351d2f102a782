//! A client against a server with TLS.

use std::sync::Arc;

use axum::http::Request;
use cenote_testing::Authority;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        CertificateError, Error, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

use super::*;

/// Serves one document over TLS, with a certificate for `localhost`; returns its URL.
async fn serve(authority: &Authority) -> HttpUrl {
    let (certificate, key) = authority.issue("localhost");
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        )
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(mut stream) = TlsAcceptor::from(Arc::new(config.clone())).accept(stream).await {
                let _read = stream.read(&mut [0; 1024]).await;
                let _sent = stream
                    .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
                    .await;
            }
        }
    });
    format!("https://localhost:{port}/document").parse().unwrap()
}

async fn get(client: &Client, url: &HttpUrl, most_bytes: usize) -> Result<Answer, ClientError> {
    client.send(url, Request::new(Full::default()), most_bytes).await
}

#[tokio::test]
async fn a_server_needs_a_certificate_that_is_trusted_and_has_its_name() {
    let authority = Authority::new("the authority of the server");
    let url = serve(&authority).await;
    let refused = get(&Client::default(), &url, 100).await.unwrap_err();
    assert!(
        matches!(
            refused.tls_failure(),
            Some(Error::InvalidCertificate(CertificateError::UnknownIssuer))
        ),
        "{refused}"
    );
    assert!(!refused.was_sent());
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ca.pem");
    std::fs::write(&file, authority.pem()).unwrap();
    let trusting = Client::with_tls(&TlsFiles {
        authorities: Some(file),
        certificate: None,
    })
    .unwrap();
    let answer = get(&trusting, &url, 100).await.unwrap();
    assert_eq!((answer.status, &*answer.body), (StatusCode::OK, &b"{}"[..]));
    let too_long = get(&trusting, &url, 1).await.unwrap_err();
    assert!(matches!(too_long, ClientError::Body(1)) && too_long.was_sent());
    let misnamed = get(&trusting, &url.clone().with_tls_name("other.example".to_owned()), 100).await;
    assert!(misnamed.unwrap_err().tls_failure().is_some());
    let by_address: HttpUrl = url.to_string().replace("localhost", "127.0.0.1").parse().unwrap();
    get(&trusting, &by_address, 100).await.unwrap_err();
    let named = by_address.with_tls_name("localhost".to_owned());
    get(&trusting, &named, 100).await.unwrap();
}

#[test]
fn a_file_that_holds_nothing_of_use_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("empty.pem");
    std::fs::write(&file, "nothing").unwrap();
    let missing = directory.path().join("missing.pem");
    for (authorities, certificate, named) in [
        (Some(file.clone()), None, "empty.pem: holds no certificate"),
        (Some(missing.clone()), None, "missing.pem: No such file"),
        (None, Some((file, missing)), "empty.pem: holds no certificate"),
    ] {
        let files = TlsFiles {
            authorities,
            certificate,
        };
        let Err(error) = Client::with_tls(&files) else {
            panic!("{named}");
        };
        assert!(error.to_string().contains(named), "{error}");
    }
}
