//! E-mail addresses and names of users. The addresses are compared with Python's `email-validator`.

use std::{path::Path, process::Stdio};

use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, TestRng, TestRunner},
};
use serde_json::json;
use tokio::{io::AsyncWriteExt, process::Command};

use crate::support::Service;

/// For each line, a JSON string, prints whether it is a valid address.
const JUDGE: &str = r#"
import json, sys
from email_validator import validate_email, EmailNotValidError
import email_validator
# The service accepts these on purpose: names for internal use.
email_validator.SPECIAL_USE_DOMAIN_NAMES.clear()
for line in sys.stdin:
    address = json.loads(line)
    try:
        validate_email(address, check_deliverability=False, strict=True)
        print("true")
    except EmailNotValidError:
        print("false")
"#;

async fn reference(addresses: &[String]) -> Vec<bool> {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/oracles/bin/python");
    assert!(
        python.exists(),
        "{} is not there; run scripts/setup test",
        python.display()
    );
    let mut command = Command::new(python);
    command
        .args(["-c", JUDGE])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let lines: String = addresses
        .iter()
        .map(|address| format!("{}\n", json!(address)))
        .collect();
    let writing = tokio::spawn(async move { input.write_all(lines.as_bytes()).await });
    let output = child.wait_with_output().await.unwrap();
    writing.await.unwrap().unwrap();
    assert!(output.status.success());
    let output = String::from_utf8(output.stdout).unwrap();
    output.lines().map(|line| line == "true").collect()
}

/// Valid addresses, and addresses that are almost valid.
const KNOWN: &[&str] = &[
    "ada@example.org",
    "Ada.Lovelace+tag@Example.ORG",
    "o'brien@example.org",
    "!#$%&'*+-/=?^_`{|}~@example.org",
    "jörg@example.org",
    "用户@例子.广告",
    "иван@почта.рф",
    "δοκιμή@παράδειγμα.gr",
    "ada@bücher.de",
    "ada@BÜCHER.de",
    "ada@straße.de",
    "ada@xn--bcher-kva.de",
    "ada@xn--zzzzzz.de",
    "ada@example。org",
    "ada@a.co",
    "ada@sub.sub.example.museum",
    "1@2.org",
    "ada@123.org",
    "ada@example.123",
    "ada@example",
    "ada@localhost",
    "ada@127.0.0.1",
    "ada@[127.0.0.1]",
    "ada@.org",
    "ada@example..org",
    "ada@example.org.",
    "ada@-example.org",
    "ada@example-.org",
    "ada@ex--ample.org",
    "ada@exa_mple.org",
    "ada@exa mple.org",
    ".ada@example.org",
    "ada.@example.org",
    "a..da@example.org",
    "a da@example.org",
    "\"a da\"@example.org",
    "ada",
    "@example.org",
    "ada@",
    "ada@@example.org",
    "a@b@example.org",
    "ada＠example.org",
    "<ada@example.org>",
    "Ada <ada@example.org>",
    " ada@example.org",
    "ada@example.org ",
    "ada@example.org\n",
    "a\u{200b}da@example.org",
    "a\u{202e}da@example.org",
    "a\u{7}da@example.org",
    "\u{301}ada@example.org",
    "ada@\u{301}example.org",
    "e\u{301}@example.org",
    "ada@♥.org",
    "ada@a\u{308}.de",
    "ada@example.org,eve@example.org",
    "ada@例え.テスト",
    "ada@\u{5d0}\u{5d1}.\u{5d0}\u{5d1}",
];

fn address() -> impl Strategy<Value = String> {
    let letters = "[a-zA-Z0-9äöüßéñабвгдежαβγδ中文字日本語अआ]{1,6}";
    let odd = "[-._+'\"@, \\t<>()ʼ·×]{0,1}";
    let local = (letters, odd, letters).prop_map(|(a, b, c)| a + &b + &c);
    let domain = (letters, "[-._@ ]{0,2}", letters, "\\.(org|de|рф|中国|c|123|a1|1a|)")
        .prop_map(|(a, b, c, d)| a + &b + &c + &d);
    (local, domain).prop_map(|(local, domain)| format!("{local}@{domain}"))
}

#[tokio::test]
async fn the_addresses_that_email_validator_accepts_are_accepted_and_no_others() {
    let service = Service::start(&[]).await;
    let mut addresses: Vec<String> = KNOWN.iter().map(|known| (*known).to_owned()).collect();
    let config = Config::default();
    let random = TestRng::deterministic_rng(config.rng_algorithm);
    let mut runner = TestRunner::new_with_rng(config, random);
    for _ in 0..400 {
        addresses.push(address().new_tree(&mut runner).unwrap().current());
    }
    let expected = reference(&addresses).await;
    assert_eq!(expected.len(), addresses.len());
    assert!(expected.iter().filter(|taken| **taken).count() > 50);
    let mut connection = service.connect().await;
    let mut different = Vec::new();
    for (address, expected) in addresses.iter().zip(expected) {
        let body = json!({"name": "Ada", "email": address});
        let added = connection.post("/users/", &body).await.unwrap();
        let taken = match added.status {
            201 | 409 => true,
            _ => {
                assert_eq!(added.wrong_fields(), ["email"]);
                false
            }
        };
        if taken != expected {
            different.push(format!("{address:?}: taken {taken}, by email-validator {expected}"));
        }
    }
    assert!(different.is_empty(), "{different:#?}");
}

#[tokio::test]
async fn a_name_that_is_invisible_or_reverses_text_is_refused_with_the_reason() {
    let service = Service::start(&[]).await;
    for (n, name) in ["李小龍", "Jose\u{301}", "محمد", "O’Brien", "👩‍🚀"].iter().enumerate() {
        let body = json!({"name": name, "email": format!("{n}@example.org")});
        assert_eq!(service.post("/users/", &body).await.json(201)["name"], *name);
    }
    for (name, why) in [
        (" \t ", "control"),
        ("   ", "blanks"),
        ("\u{200b}\u{3164}", "blanks"),
        ("a\nb", "control"),
        ("Ada\u{202e}nimda", "direction"),
        ("\u{301}da", "combining"),
    ] {
        let body = json!({"name": name, "email": "refused@example.org"});
        let refused = service.post("/users/", &body).await;
        assert_eq!(refused.wrong_fields(), ["name"]);
        let problem = refused.problem(422, "validation");
        let detail = problem["errors"][0]["detail"].as_str().unwrap();
        assert!(detail.contains(why), "{name:?}: {detail}");
    }
}
