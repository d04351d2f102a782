use proptest::prelude::*;

use super::*;

fn trusted(text: &str) -> TrustedProxies {
    text.parse().unwrap()
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn headers(name: ProxyHeader, lines: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append(name.name(), HeaderValue::from_bytes(line.as_bytes()).unwrap());
    }
    headers
}

/// The client behind a peer 10.0.0.1 that is trusted with all of 10.0.0.0/8 and fd00::/8.
fn client(name: ProxyHeader, lines: &[&str]) -> String {
    let (peer, trusted) = (address("10.0.0.1"), trusted("10.0.0.0/8, fd00::/8"));
    client_address(peer, &headers(name, lines), &trusted, name).to_string()
}

#[test]
fn networks_of_both_families_and_single_addresses_are_trusted() {
    let list = trusted("10.0.0.0/8, 192.0.2.7 fd00::/8,::1");
    for inside in ["10.255.0.1", "192.0.2.7", "fd12::1", "::1", "::ffff:10.0.0.1"] {
        assert!(list.contains(address(inside)), "{inside}");
    }
    for outside in ["11.0.0.1", "192.0.2.8", "fe80::1", "::2", "::ffff:11.0.0.1"] {
        assert!(!list.contains(address(outside)), "{outside}");
    }
    assert_eq!(trusted("::ffff:10.0.0.0/104"), trusted("10.0.0.0/8"));
    assert_eq!(trusted(&list.to_string()), list);
    assert!(trusted("").is_empty() && trusted(" , ").is_empty());
}

#[test]
fn an_invalid_network_is_refused_with_what_is_wrong() {
    for text in [
        "x",
        "10.0.0.0/33",
        "10.0.0/8",
        "::1/129",
        "10.0.0.0/8/8",
        "proxy.local",
        "10.0.0.1:80",
    ] {
        let error = format!("::1, {text}").parse::<TrustedProxies>().unwrap_err();
        assert_eq!(error, InvalidNetwork::Malformed(2), "{text}");
    }
    let error = "10.1.2.3/8".parse::<TrustedProxies>().unwrap_err();
    assert!(error.to_string().ends_with("write 10.0.0.0/8"), "{error}");
}

#[test]
fn a_header_from_an_untrusted_peer_changes_nothing() {
    let peer = address("203.0.113.9");
    for name in [ProxyHeader::XForwardedFor, ProxyHeader::Forwarded] {
        for line in ["1.2.3.4", "for=1.2.3.4", "10.0.0.1", "\"", ""] {
            let found = client_address(peer, &headers(name, &[line]), &trusted("10.0.0.0/8"), name);
            assert_eq!(found, peer, "{line}");
        }
    }
}

#[test]
fn the_last_untrusted_address_is_the_client() {
    use ProxyHeader::XForwardedFor;
    for (lines, expected) in [
        (&[][..], "10.0.0.1"),
        (&["1.2.3.4"], "1.2.3.4"),
        (&["6.6.6.6, 1.2.3.4"], "1.2.3.4"),
        (&["6.6.6.6, 1.2.3.4, 10.0.0.2 ,fd00::7"], "1.2.3.4"),
        (&["6.6.6.6", "1.2.3.4", "10.0.0.2"], "1.2.3.4"),
        (&["10.0.0.9, 10.0.0.2"], "10.0.0.9"),
        (&["1.2.3.4:5678"], "1.2.3.4"),
        (&["2001:db8::1"], "2001:db8::1"),
        (&["[2001:db8::1]"], "2001:db8::1"),
        (&["[2001:db8::1]:80"], "2001:db8::1"),
        (&["::ffff:1.2.3.4"], "1.2.3.4"),
        (&["::ffff:10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        (&["\t1.2.3.4\t"], "1.2.3.4"),
    ] {
        assert_eq!(client(XForwardedFor, lines), expected, "{lines:?}");
    }
}

#[test]
fn at_an_entry_that_is_no_address_the_last_trusted_hop_is_the_client() {
    for entry in [
        "",
        " ",
        "unknown",
        "_hidden",
        "1.2.3",
        "1.2.3.4:",
        "1.2.3.4:x",
        "1.2.3.4:123456",
        "1.2.3.4 5.6.7.8",
        "[::1",
        "[::1]80",
        "[1.2.3.4]",
        "fe80::1%eth0",
        "\"1.2.3.4\"",
        "\u{e9}",
    ] {
        let line = format!("6.6.6.6, {entry}, 10.0.0.2");
        assert_eq!(client(ProxyHeader::XForwardedFor, &[&line]), "10.0.0.2", "{entry}");
    }
    assert_eq!(client(ProxyHeader::XForwardedFor, &["6.6.6.6", ""]), "10.0.0.1");
}

#[test]
fn the_header_forwarded_is_read_with_quotes_brackets_ports_and_hidden_names() {
    for (lines, expected) in [
        (&["for=1.2.3.4"][..], "1.2.3.4"),
        (&["for=6.6.6.6, For=1.2.3.4;proto=https;by=10.0.0.1"], "1.2.3.4"),
        (&["proto=http; FOR=\"[2001:db8::17]:4711\""], "2001:db8::17"),
        (&["for=\"1.2.3.4:80\", for=10.0.0.2"], "1.2.3.4"),
        (&["for=\"1.2.3.4:_port\""], "1.2.3.4"),
        (&["for=6.6.6.6", "for=1.2.3.4", "for=10.0.0.2"], "1.2.3.4"),
        (&["for=6.6.6.6, for=unknown, for=10.0.0.2"], "10.0.0.2"),
        (&["for=6.6.6.6, for=_secret, for=10.0.0.2"], "10.0.0.2"),
        (&["for=6.6.6.6, proto=http"], "10.0.0.1"),
        (&["for=6.6.6.6, for=1.2.3.4;for=5.6.7.8"], "10.0.0.1"),
        (&["for=6.6.6.6, "], "10.0.0.1"),
        (&["by=\"a;for=6.6.6.6,for=7.7.7.7\";for=1.2.3.4"], "1.2.3.4"),
        (&["by=\"a\\\";for=6.6.6.6\";for=1.2.3.4"], "1.2.3.4"),
        (&["by=\"a\\\\\";for=1.2.3.4"], "1.2.3.4"),
        // X-Forwarded-For is ignored, see below.
    ] {
        assert_eq!(client(ProxyHeader::Forwarded, lines), expected, "{lines:?}");
    }
    let mut both = headers(ProxyHeader::XForwardedFor, &["6.6.6.6"]);
    both.insert(FORWARDED, HeaderValue::from_static("for=1.2.3.4"));
    let (peer, trusted) = (address("10.0.0.1"), trusted("10.0.0.1"));
    let found = client_address(peer, &both, &trusted, ProxyHeader::Forwarded);
    assert_eq!(found, address("1.2.3.4"));
}

#[test]
fn a_proxy_that_is_not_trusted_is_reported_once() {
    let addresses = ClientAddresses::new(TrustedProxies::default(), ProxyHeader::XForwardedFor);
    let sent = headers(ProxyHeader::XForwardedFor, &["1.2.3.4"]);
    for (peer, has_warned) in [("203.0.113.9", false), ("10.0.0.1", true)] {
        let peer = address(peer);
        assert_eq!(addresses.of(peer, &HeaderMap::new()), peer);
        assert!(!addresses.has_warned.load(Relaxed));
        assert_eq!(addresses.of(peer, &sent), peer);
        assert_eq!(addresses.has_warned.load(Relaxed), has_warned);
    }
    for private in [
        "127.0.0.1",
        "172.17.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.1.1",
        "::1",
        "fd00::1",
        "fe80::1",
    ] {
        assert!(is_private(address(private)), "{private}");
    }
    for public in ["8.8.8.8", "100.63.0.1", "172.32.0.1", "2001:db8::1"] {
        assert!(!is_private(address(public)), "{public}");
    }
}

proptest! {
    /// What a client sends stands before what the proxy appends.
    #[test]
    fn nothing_that_a_client_sends_changes_what_a_trusted_proxy_appended(
        sent in proptest::collection::vec("[ -~\\t]{0,30}", 0..3),
        quoting in "[\",;=\\\\ for]{0,12}",
        same_line: bool,
    ) {
        for (name, appended) in [
            (ProxyHeader::XForwardedFor, "1.2.3.4, 10.0.0.2"),
            (ProxyHeader::Forwarded, "for=1.2.3.4, for=\"10.0.0.2:80\";by=\"[fd00::1]\""),
        ] {
            let mut lines: Vec<_> = sent.iter().map(String::as_str).chain([&*quoting]).collect();
            let joined = format!("{quoting}, {appended}");
            if same_line {
                lines.pop();
                lines.push(&joined);
            } else {
                lines.push(appended);
            }
            prop_assert_eq!(client(name, &lines), "1.2.3.4");
        }
    }

    #[test]
    fn every_address_is_read_back_as_it_was_written(bits: u128, port: u16, v4: bool) {
        let v6 = Ipv6Addr::from(bits);
        let (plain, with_port) = match v4 {
            true => {
                let v4 = Ipv4Addr::from_bits(bits as u32);
                (IpAddr::V4(v4), format!("{v4}:{port}"))
            }
            false => (IpAddr::V6(v6), format!("[{v6}]:{port}")),
        };
        prop_assert_eq!(node(plain.to_string().as_bytes()), Some(plain.to_canonical()));
        prop_assert_eq!(node(with_port.as_bytes()), Some(plain.to_canonical()));
    }

    #[test]
    fn separators_outside_quotes_are_found_as_from_the_beginning(
        parts in proptest::collection::vec("([a-z=]|\"([a-z,;]|\\\\[\"\\\\])*\"){0,4}", 1..6),
    ) {
        let value = parts.join(",");
        let mut found: Vec<_> = FromTheEnd::new(value.as_bytes(), b',').map(<[u8]>::to_vec).collect();
        found.reverse();
        let expected: Vec<_> = parts.iter().map(|part| part.as_bytes().to_vec()).collect();
        prop_assert_eq!(found, expected);
    }
}
