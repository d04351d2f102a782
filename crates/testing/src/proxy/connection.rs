//! One proxied connection. Invariant: it counts as open until its sockets are closed.

use std::{io, net::SocketAddr, sync::Arc};

use tokio::{
    net::{TcpSocket, TcpStream},
    select,
    time::{Instant, sleep_until},
};

use super::{
    faults::{Direction, Shared},
    pump::{End, pump},
};

/// Removes the connection from the open ones when it is dropped.
struct Registered {
    number: u64,
    shared: Arc<Shared>,
}

impl Registered {
    fn server_closed(&self) {
        self.shared.open.send_modify(|open| {
            open.servers.remove(&self.number);
        });
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.shared.open.send_modify(|open| {
            open.servers.remove(&self.number);
            open.clients.remove(&self.number);
        });
    }
}

pub(super) async fn run(client: TcpStream, number: u64, shared: Arc<Shared>) {
    let registered = Registered {
        number,
        shared: Arc::clone(&shared),
    };
    let (client, mut server) = (client, None); // declared later, hence closed earlier than counted so
    let cut = || shared.until_faults(|faults| faults.refuse || faults.cut >= number);
    let mut end = select! {
        biased;
        () = cut() => End::Reset,
        () = shared.until_faults(|faults| faults.orphan >= number) => End::Orphaned,
        end = pass(&client, &mut server, &shared) => end,
    };
    if end == End::Orphaned {
        server = None;
        registered.server_closed();
        end = select! {
            biased;
            () = cut() => End::Reset,
            end = swallow(&client) => end,
        };
    }
    if end == End::Reset {
        for side in [Some(&client), server.as_ref()].into_iter().flatten() {
            let _ = side.set_zero_linger(); // closed this way, the other end is told that something is wrong
        }
    }
}

/// Connects to the server and forwards the bytes of both sides until both have ended.
async fn pass(client: &TcpStream, server: &mut Option<TcpStream>, shared: &Shared) -> End {
    let accepted = Instant::now();
    loop {
        shared.until_faults(|faults| faults.hold == [false; 2]).await;
        let due = accepted + shared.faults.borrow().delay_connects;
        if due <= Instant::now() {
            break;
        }
        select! {
            () = sleep_until(due) => {}
            () = shared.until_faults(|faults| accepted + faults.delay_connects != due) => {}
        }
    }
    let address = *shared.server.borrow();
    let Ok(connected) = connect(address).await else {
        return End::Reset;
    };
    let server: &TcpStream = server.insert(connected);
    for side in [client, server] {
        let _ = side.set_nodelay(true); // a proxy adds no delays of its own
    }
    let mut to_server = std::pin::pin!(pump(client, server, Direction::ToServer, shared));
    let mut to_client = std::pin::pin!(pump(server, client, Direction::ToClient, shared));
    let (end, other) = select! {
        end = &mut to_server => (end, to_client),
        end = &mut to_client => (end, to_server),
    };
    match end {
        End::Reset => end,
        _ => other.await,
    }
}

/// Connects to the server. If the future is dropped after the server has accepted, the server sees a reset.
async fn connect(server: SocketAddr) -> io::Result<TcpStream> {
    let socket = match server {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    socket.set_zero_linger()?;
    let connected = socket.connect(server).await?;
    rustix::net::sockopt::set_socket_linger(&connected, None)?;
    Ok(connected)
}

/// Drops what the client sends until it closes.
async fn swallow(client: &TcpStream) -> End {
    let mut bytes = vec![0; 4096];
    while client.readable().await.is_ok() {
        match client.try_read(&mut bytes) {
            Ok(0) => return End::Finished,
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => break,
            _ => {}
        }
    }
    End::Reset
}
