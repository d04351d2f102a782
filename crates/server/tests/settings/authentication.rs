//! The settings of authentication together: where the keys of tokens come from.

use std::path::Path;

use cenote::settings::KeySource;

use crate::world::{World, env};

const SECRET: &str = "a secret of 32 bytes, or of more";

fn source(world: &World) -> Option<KeySource> {
    world.settings().auth.token_keys
}

#[test]
fn the_keys_of_tokens_come_from_a_secret_a_file_or_a_url() {
    let secret = source(&env(&[("AUTH", "jwt"), ("JWT_SECRET", SECRET)]));
    assert_eq!(secret, Some(KeySource::Secret(SECRET.to_owned().into())));
    let world = env(&[("AUTH", "keys+jwt"), ("JWT_SECRET_FILE", "secret")]).file("secret", &format!("{SECRET}\n"));
    let expected = world.directory.path().join("secret");
    assert_eq!(
        source(&world),
        Some(KeySource::SecretFile(expected)),
        "it is read again later"
    );
    let file = source(&env(&[("AUTH", "jwt"), ("JWT_JWKS_FILE", "/jwks.json")]));
    assert_eq!(file, Some(KeySource::File("/jwks.json".into())));
    let url = "https://issuer.example/jwks.json";
    let from_url = source(&env(&[("AUTH", "jwt"), ("JWT_JWKS_URL", url)]));
    assert_eq!(from_url, Some(KeySource::Url(url.parse().unwrap())));
}

#[test]
fn tokens_need_exactly_one_place_for_their_keys() {
    let errors = env(&[("AUTH", "jwt")]).errors();
    assert!(
        errors.contains("AUTH from the environment: tokens need JWT_SECRET"),
        "{errors}"
    );
    let both = env(&[("AUTH", "jwt"), ("JWT_SECRET", SECRET), ("JWT_JWKS_FILE", "x")]).errors();
    assert!(
        both.contains("JWT_JWKS_FILE from the environment: ") && both.contains("JWT_SECRET"),
        "{both}"
    );
}

#[test]
fn a_short_secret_is_refused_and_not_shown() {
    let errors = env(&[("AUTH", "jwt"), ("JWT_SECRET", "hunter2")]).errors();
    assert_eq!(
        errors,
        "JWT_SECRET from the environment: the value is shorter than 32 bytes"
    );
}

#[test]
fn keys_of_tokens_that_are_not_accepted_are_warned_about() {
    let loaded = env(&[("JWT_SECRET", SECRET)]).loaded();
    assert_eq!(loaded.settings.auth.token_keys, None);
    assert_eq!(
        loaded.warnings,
        ["JWT_SECRET from the environment is not used: AUTH by default accepts no tokens"]
    );
}

#[test]
fn an_unencrypted_url_of_another_machine_is_refused() {
    let errors = env(&[("AUTH", "jwt"), ("JWT_JWKS_URL", "http://issuer.example/")]).errors();
    assert!(
        errors.contains("JWT_JWKS_URL") && errors.contains("https://"),
        "{errors}"
    );
}

#[test]
fn the_file_of_the_first_key_is_found_from_the_working_directory() {
    let world = env(&[("CENOTE_BOOTSTRAP_KEY_FILE", "first-key")]);
    let expected = world.directory.path().join("first-key");
    assert_eq!(world.settings().auth.bootstrap_key, Some(expected));
    let flag = World::new().arg("--bootstrap-key-file=/key");
    assert_eq!(flag.settings().auth.bootstrap_key.as_deref(), Some(Path::new("/key")));
}
