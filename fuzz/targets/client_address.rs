//! `X-Forwarded-For`, `Forwarded` and `TRUSTED_PROXIES`: nothing makes the parsers panic, and nothing that a client sends
//! changes what a trusted proxy appended.
#![no_main]

use std::net::IpAddr;

use cenote::http::{ProxyHeader, TrustedProxies, client_address};
use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|given: (&[u8], &str, bool)| {
    let (sent, networks, same_line) = given;
    drop(networks.parse::<TrustedProxies>());
    let (client, proxy) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([10, 0, 0, 1]));
    let trusted: TrustedProxies = "10.0.0.0/8".parse().expect("a network");
    for (header, name, appended) in [
        (ProxyHeader::XForwardedFor, "x-forwarded-for", "192.0.2.1, 10.0.0.2"),
        (ProxyHeader::Forwarded, "forwarded", "for=\"192.0.2.1:80\";by=_x, for=10.0.0.2"),
    ] {
        let mut headers = HeaderMap::new();
        let name = HeaderName::from_static(name);
        let lines = match same_line {
            true => vec![[sent, b", ", appended.as_bytes()].concat()],
            false => vec![sent.to_vec(), appended.as_bytes().to_vec()],
        };
        for line in lines {
            let Ok(line) = HeaderValue::from_bytes(&line) else {
                return;
            };
            headers.append(name.clone(), line);
        }
        assert_eq!(client_address(proxy, &headers, &trusted, header), client);
        assert_eq!(client_address(client, &headers, &trusted, header), client);
    }
});
