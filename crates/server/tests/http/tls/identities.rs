//! Certificates of clients: who is let in, and as whom.

use cenote::http::{ClientCertificates, HttpConfig, Tls};
use cenote_testing::Authority;
use tokio::time::timeout;

use super::support::{Files, TlsClient, Who, start};
use crate::support::{LONG, Server, get as get_request};

struct World {
    files: Files,
    clients: Authority,
    server: Server,
}

fn world(required: bool) -> World {
    let files = Files::new();
    let clients = Authority::new("the authority of the clients");
    files.write("clients.pem", &clients.pem());
    let mut config = files.config();
    config.clients = Some(ClientCertificates {
        authorities: files.path("clients.pem"),
        required,
    });
    let server = start(Tls::load(config).unwrap(), Who, HttpConfig::default());
    World { files, clients, server }
}

/// The subject that the server sees; an error if it refuses the client. With TLS 1.3 that shows only after the client's
/// part of the handshake.
async fn subject(client: &TlsClient, server: &Server) -> std::io::Result<String> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = client.try_connect(server.address).await?;
    stream.write_all(get_request("/").as_bytes()).await?;
    let mut answer = vec![0; 4096];
    let read = timeout(LONG, stream.read(&mut answer)).await.unwrap()?;
    let answer = String::from_utf8(answer[..read].to_vec()).unwrap();
    Ok(answer.rsplit("\r\n").next().unwrap().to_owned())
}

#[tokio::test]
async fn the_subject_of_a_clients_certificate_reaches_the_service() {
    let world = world(true);
    for client in [world.files.client(), world.files.client().version_1_2()] {
        let client = client.identity(world.clients.issue("reports"));
        assert_eq!(subject(&client, &world.server).await.unwrap(), "CN=reports");
    }
}

#[tokio::test]
async fn a_resumed_session_has_the_same_subject() {
    let world = world(true);
    let client = world.files.client().identity(world.clients.issue("reports"));
    let connector = client.connector();
    let mut resumed = false;
    for _ in 0..3 {
        let mut client = TlsClient::connect_by(&connector, &world.server).await;
        client.send(get_request("/")).await;
        assert_eq!(client.answer().await.text(), "CN=reports");
        let kind = client.stream.get_ref().1.handshake_kind();
        resumed |= kind == Some(tokio_rustls::rustls::HandshakeKind::Resumed);
    }
    assert!(resumed);
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused() {
    for required in [true, false] {
        let world = world(required);
        let stranger = Authority::new("another authority").issue("reports");
        for client in [world.files.client(), world.files.client().version_1_2()] {
            let refused = subject(&client.identity(stranger.clone()), &world.server).await;
            let refused = refused.unwrap_err().to_string();
            assert!(refused.contains("UnknownCA"), "{refused}");
        }
    }
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused_only_where_one_is_required() {
    let strict = world(true);
    let refused = subject(&strict.files.client(), &strict.server).await.unwrap_err();
    assert!(refused.to_string().contains("CertificateRequired"), "{refused}");
    let lenient = world(false);
    assert_eq!(
        subject(&lenient.files.client(), &lenient.server).await.unwrap(),
        "nobody"
    );
    let known = lenient.files.client().identity(lenient.clients.issue("reports"));
    assert_eq!(subject(&known, &lenient.server).await.unwrap(), "CN=reports");
}
