//! Binds the listeners of `HOST` and `PORT`.
//!
//! Invariant: all listeners have the same port. If an address of this machine is in use, the start fails.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use rustix::io::Errno;
use tokio::net::{TcpListener, lookup_host};

use crate::http;

/// Number of attempts to find a port that is free at every address, for port 0.
const TRIES: usize = 8;

/// Listens on every address of the host. An address that this machine does not have, such as an IPv6 address without
/// IPv6, is skipped with a warning, unless it is the only one.
pub(super) async fn listen(host: &str, port: u16) -> io::Result<Vec<TcpListener>> {
    let mut addresses: Vec<_> = lookup_host((host, port)).await?.collect();
    if host.eq_ignore_ascii_case("localhost") {
        // RFC 6761, section 6.3, defines both; many hosts files list only one.
        let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        addresses.extend(loopback.map(|ip| SocketAddr::new(ip, port)));
    }
    let mut distinct: Vec<SocketAddr> = Vec::with_capacity(addresses.len());
    for address in addresses {
        if !distinct.contains(&address) {
            distinct.push(address);
        }
    }
    let mut tries = TRIES;
    loop {
        tries -= 1;
        match bind(&distinct) {
            Err(error) if port == 0 && tries > 0 && error.kind() == io::ErrorKind::AddrInUse => {}
            bound => return bound,
        }
    }
}

fn bind(addresses: &[SocketAddr]) -> io::Result<Vec<TcpListener>> {
    let mut listeners = Vec::with_capacity(addresses.len());
    let mut port = None;
    let mut absent = Vec::new();
    for address in addresses {
        let address = SocketAddr::new(address.ip(), port.unwrap_or(address.port()));
        match http::bind(address) {
            Ok(listener) => {
                port = Some(listener.local_addr()?.port());
                listeners.push(listener);
            }
            Err(error) if is_absent(&error) => absent.push((address, error)),
            Err(error) => return Err(io::Error::new(error.kind(), format!("{address}: {error}"))),
        }
    }
    if listeners.is_empty() {
        let error = absent
            .into_iter()
            .next()
            .map(|(address, error)| io::Error::new(error.kind(), format!("{address}: {error}")));
        return Err(error.unwrap_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address")));
    }
    for (address, error) in absent {
        tracing::warn!(%address, %error, "this machine does not have an address of HOST; listening on the others");
    }
    Ok(listeners)
}

/// Whether this machine lacks the address, or its whole family.
fn is_absent(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(
        errno,
        Some(Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT | Errno::PROTONOSUPPORT)
    )
}

/// Returns the log message with the addresses and the URL of the documentation.
pub(super) fn describe(scheme: &str, addresses: &[SocketAddr]) -> String {
    let all: Vec<_> = addresses
        .iter()
        .map(|address| format!("{scheme}://{address}"))
        .collect();
    let docs = addresses.first().map_or_else(String::new, |first| {
        let here = SocketAddr::new(as_reached_from_here(first.ip()), first.port());
        format!("; docs at {scheme}://{here}/docs")
    });
    format!("listening on {}{docs}", all.join(" and "))
}

/// The address at which this machine reaches a service that listens on `ip`: no client can open the unspecified address.
pub(crate) fn as_reached_from_here(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has_ipv6() -> bool {
        std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
    }

    #[tokio::test]
    async fn localhost_is_both_families_on_one_port() {
        let listeners = listen("localhost", 0).await.unwrap();
        let addresses: Vec<_> = listeners.iter().map(|it| it.local_addr().unwrap()).collect();
        assert!(
            addresses.iter().all(|it| it.port() == addresses[0].port()),
            "{addresses:?}"
        );
        let mut ips: Vec<_> = addresses.iter().map(SocketAddr::ip).collect();
        ips.sort();
        let mut expected: Vec<IpAddr> = vec![Ipv4Addr::LOCALHOST.into()];
        if has_ipv6() {
            expected.push(Ipv6Addr::LOCALHOST.into());
        }
        assert_eq!(ips, expected);
    }

    #[tokio::test]
    async fn an_address_this_machine_does_not_have_is_left_out_unless_it_is_the_only_one() {
        let documentation: SocketAddr = ([192, 0, 2, 1], 0).into();
        let own: SocketAddr = ([127, 0, 0, 1], 0).into();
        assert_eq!(bind(&[documentation, own]).unwrap().len(), 1);
        let error = bind(&[documentation]).unwrap_err();
        assert!(error.to_string().starts_with("192.0.2.1:0: "), "{error}");
    }

    #[tokio::test]
    async fn a_port_in_use_at_one_address_is_an_error_even_if_another_is_free() {
        let taken = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = listen("localhost", port).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{error}");
        assert!(error.to_string().starts_with(&format!("127.0.0.1:{port}: ")), "{error}");
    }

    #[tokio::test]
    async fn the_unspecified_ipv6_address_takes_ipv4_too() {
        if !has_ipv6() {
            return; // There is no such address here.
        }
        let listeners = listen("::", 0).await.unwrap();
        let port = listeners[0].local_addr().unwrap().port();
        tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port))
            .await
            .unwrap();
        tokio::net::TcpStream::connect((Ipv6Addr::LOCALHOST, port))
            .await
            .unwrap();
    }

    #[test]
    fn the_log_names_every_address_and_one_to_read_the_docs_at() {
        let addresses = [([0, 0, 0, 0], 80).into(), (Ipv6Addr::LOCALHOST, 80).into()];
        for scheme in ["http", "https"] {
            let expected = format!(
                "listening on {scheme}://0.0.0.0:80 and {scheme}://[::1]:80; docs at {scheme}://127.0.0.1:80/docs"
            );
            assert_eq!(describe(scheme, &addresses), expected);
        }
    }
}
