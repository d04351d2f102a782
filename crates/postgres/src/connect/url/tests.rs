//! What is understood, and what complaints say.

use std::path::Path;

use super::*;
use crate::Config;

fn parse(text: &str) -> Result<Config> {
    Config::from_url(text)
}

fn mode(url: &Config) -> (SslMode, Verify) {
    (url.server.get_ssl_mode(), url.tls.verify)
}

#[test]
fn each_sslmode_says_whether_to_encrypt_and_what_to_check() {
    for (options, expected) in [
        ("", (SslMode::Prefer, Verify::Nothing)),
        ("sslmode=", (SslMode::Prefer, Verify::Nothing)),
        ("sslmode=disable", (SslMode::Disable, Verify::Nothing)),
        ("sslmode=allow", (SslMode::Prefer, Verify::Nothing)),
        ("sslmode=require", (SslMode::Require, Verify::Nothing)),
        ("sslmode=require&sslrootcert=/ca", (SslMode::Require, Verify::Authority)),
        (
            "sslmode=verify-ca&sslrootcert=/ca",
            (SslMode::Require, Verify::Authority),
        ),
        ("sslrootcert=/ca&sslmode=verify-full", (SslMode::Require, Verify::Host)),
        ("sslrootcert=system", (SslMode::Require, Verify::Host)),
        ("sslmode=disable&sslmode=require", (SslMode::Require, Verify::Nothing)),
    ] {
        let list = format!("host=h {}", options.replace('&', " ").replace("sslmode= ", ""));
        for text in [format!("postgresql://h/d?{options}"), list] {
            if text.ends_with("sslmode=") {
                continue; // in a list an empty value has quotes
            }
            let url = parse(&text).unwrap();
            assert_eq!(mode(&url), expected, "{text}");
        }
    }
}

#[test]
fn names_of_files_are_decoded_and_the_rest_reaches_the_driver_unchanged() {
    let url = parse(
        "postgresql://u%40x:p%26%3D@h:1,%2Frun:2/d%3F?application_name=a%26b&sslrootcert=/a%20b%26c\
         &sslmode=verify-ca&connect_timeout=7&sslcert=c&sslkey=k&load_balance_hosts=random\
         &channel_binding=require&sslnegotiation=direct&target_session_attrs=prefer-standby",
    )
    .unwrap();
    assert_eq!(url.server.get_user(), Some("u@x"));
    assert_eq!(url.server.get_password(), Some(&b"p&="[..]));
    assert_eq!(url.server.get_dbname(), Some("d?"));
    assert_eq!(url.server.get_application_name(), Some("a&b"));
    assert_eq!(url.server.get_ports(), [1, 2]);
    assert_eq!(url.server.get_connect_timeout().unwrap().as_secs(), 7);
    assert_eq!(url.server.get_load_balance_hosts(), LoadBalanceHosts::Random);
    assert_eq!(url.server.get_channel_binding(), ChannelBinding::Require);
    assert_eq!(url.server.get_ssl_negotiation(), SslNegotiation::Direct);
    assert_eq!(url.tls.roots, Some(Roots::File("/a b&c".into())));
    let ours = url.tls.certificate.unwrap();
    assert_eq!(
        (ours.certificate.as_path(), ours.key.as_path()),
        (Path::new("c"), Path::new("k"))
    );
    assert_eq!(url.target_session, TargetSession::PreferStandby);
}

#[test]
fn a_list_is_read_with_its_quotes_and_escapes() {
    let url = parse(
        r"host=a,b  user = 'o\'neil' password='a b\\c=d' sslmode='verify-full' sslrootcert=/a\ b port=1,2 dbname=''",
    )
    .unwrap();
    assert_eq!(url.server.get_user(), Some("o'neil"));
    assert_eq!(url.server.get_password(), Some(&br"a b\c=d"[..]));
    assert_eq!(url.server.get_ports(), [1, 2]);
    assert_eq!(url.tls.roots, Some(Roots::File("/a b".into())));
    assert_eq!(mode(&url), (SslMode::Require, Verify::Host));
}

#[test]
fn complaints_name_the_option_and_quote_nothing_else() {
    for (text, expected) in [
        ("mysql://u:hunter2@h/d", "must start with"),
        ("hunter2", "must start with"),
        ("", "must start with"),
        ("postgresql://u:hun@ter2@h/d", "%40"),
        ("postgresql://u:1/hunter2@h/d", "%2F"),
        ("postgresql://u:1?hunter2@h/d", "%3F"),
        ("postgresql://u:hunter2%@h/d", "%25"),
        ("postgresql://u:hun ter2@h/d", "%20"),
        ("postgresql://u:p@h/d?password=a&hunter2=b", "unknown option"),
        ("postgresql://u:1/d?hunter2=b@h/d", "unknown option"),
        ("postgresql://h/d?nonsense=2", "`nonsense`"),
        ("host=h nonsense=2", "`nonsense`"),
        ("hunter2=2", "unknown option"),
        ("postgresql://h/d?pool_size=2", "DB_POOL_MAX_SIZE"),
        ("postgresql://h/d?ssl=require", "sslmode=require"),
        ("jdbc:postgresql://h/d", "jdbc:"),
        ("POSTGRESQL://h/d", "lower case"),
        ("host=h:5432", "colon"),
        ("postgresql://h/d?host=a,,b", "empty host"),
        ("postgresql://h/d?hostaddr=hunter2", "`hostaddr`"),
        ("postgresql://h/d?connect_timeout=hunter2", "`connect_timeout`"),
        ("postgresql://h/d?service=hunter2", "`service`"),
        ("postgresql://h/d?sslpassword=hunter2", "openssl pkey"),
        ("postgresql://h/d?requirepeer=hunter2", "`requirepeer`"),
        ("postgresql://u:hunter2", "`port`"),
        ("postgresql://h/d?sslmode=hunter2", "verify-full"),
        ("postgresql://h/d?target_session_attrs=hunter2", "prefer-standby"),
        ("postgresql://h/d?load_balance_hosts=hunter2", "`load_balance_hosts`"),
        ("postgresql://h/d?channel_binding=hunter2", "`channel_binding`"),
        ("postgresql://h/d?passfile=hunter2", "`passfile`"),
        ("postgresql://h/d?sslcert=hunter2", "`sslkey`"),
        ("postgresql://h/d?sslmode=verify-full", "`sslrootcert`"),
        ("postgresql://h/d?sslmode=require&sslrootcert=system", "weaker"),
        ("postgresql://h/d?sslnegotiation=direct", "sslnegotiation=direct"),
        (
            "postgresql://h/d?sslmode=disable&channel_binding=require",
            "channel_binding",
        ),
        ("postgresql://h/d?sslrootcert=%ff", "UTF-8"),
        ("host=h password=oh hunter2=x", "unknown option"),
        ("host=h password=oh hunter2", "not a PostgreSQL connection string"),
        ("host=h password='hunter2", "quote"),
        ("postgresql://a,b,c/d?port=3,4", "as many ports"),
        ("host=a,b hostaddr=127.0.0.1", "as many addresses"),
        ("postgresql://a:0/d", "`port`"),
        ("postgresql://hun%20ter2/d", "host name"),
        ("postgresql://h/\0", "NUL"),
    ] {
        let complaint = parse(text).unwrap_err().to_string();
        assert!(complaint.contains(expected), "{text}: {complaint}");
        assert!(!complaint.contains("ter2"), "{text}: {complaint}");
    }
}

proptest::proptest! {
    #[test]
    fn any_password_and_any_file_name_survive(password in "\\PC{1,20}", file in "[^\0]{1,20}") {
        let encode = |text: &str| -> String { text.bytes().map(|byte| format!("%{byte:02X}")).collect() };
        let quote = |text: &str| text.replace('\\', "\\\\").replace('\'', "\\'");
        let by_url = format!(
            "postgresql://u:{}@h/d?sslmode=require&sslrootcert={}", encode(&password), encode(&file),
        );
        let by_list = format!(
            "host=h user=u password='{}' sslmode=require sslrootcert='{}'", quote(&password), quote(&file),
        );
        proptest::prop_assume!(file != "system");
        for text in [by_url, by_list] {
            let url = parse(&text).unwrap();
            proptest::prop_assert_eq!(url.server.get_password(), Some(password.as_bytes()));
            proptest::prop_assert_eq!(&url.tls.roots, &Some(Roots::File(file.clone().into())));
        }
    }


    #[test]
    fn no_text_makes_it_panic(text in "(postgresql://)?\\PC{0,40}") {
        let _ = parse(&text);
    }
}
