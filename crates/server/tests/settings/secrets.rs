//! No secret is printed, in whichever setting and source it is written.

use proptest::prelude::*;

use crate::world::{World, env};

/// Everything that may be printed about the settings of a world.
fn everything(world: &World) -> String {
    match world.load() {
        Ok(loaded) => format!(
            "{}\n{}\n{loaded:?}\n{loaded:#?}",
            loaded.report.text(),
            loaded.report.json()
        ),
        Err(errors) => format!("{errors}\n{errors:?}"),
    }
}

/// The pieces into which a wrong parser would cut a password.
fn pieces(password: &str) -> impl Iterator<Item = &str> {
    password
        .split(|c: char| !c.is_alphanumeric())
        .filter(|piece| piece.len() >= 6)
}

fn percent(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

proptest! {
    #[test]
    fn no_piece_of_a_password_is_ever_printed(
        password in "zq[a-z]{6}([@:/?#&=%,;' \"\\$\\{\\}\\\\|+-]{1,2}(zq[a-z]{6}|[0-9]{7})){0,3}",
        place in 0usize..22,
    ) {
        let encoded = percent(&password);
        let world = match place {
            0 => env(&[("DATABASE_URL", &format!("postgresql://user:{password}@host/db"))]),
            1 => env(&[("DATABASE_URL", &format!("postgresql://user:{encoded}@host/db"))]),
            2 => env(&[("DATABASE_URL", &format!("postgresql://user:{password}@host/db?sslmode=x"))]),
            3 => env(&[("DATABASE_URL", &format!("host=h user=u password={password}"))]),
            4 => env(&[("DATABASE_URL", &format!("host=h password='{password}' dbname=d"))]),
            5 => env(&[("DATABASE_URL", &password)]),
            6 => env(&[("REDIS_URL", &format!("redis://:{password}@host/0"))]),
            7 => env(&[("REDIS_URL", &format!("redis://user:{encoded}@host/x"))]),
            8 => env(&[("REDIS_URL", &format!("redis://:{password}@a,redis://:{password}@b"))]),
            9 => env(&[("DB_PASS", &password), ("DB_PASSWORD", "other"), ("DB_HOST", "h")]),
            10 => env(&[("DB_PASS", &password), ("DB_HOST", "h"), ("PORT", "x")]),
            11 => World::new().file(".env", &format!("DB_HOST=h\nDB_PASS={password}\n")),
            12 => World::new().file("cenote.toml", &format!("db_host='h'\ndb_pass=\"{password}\"\n")),
            13 => World::new().file("cenote.toml", &format!("db_pass = {password}\n")),
            15 => env(&[("DATABASE_URL", &format!("postgresql://host/db?user=u&password={password}"))]),
            16 => env(&[("DATABASE_URL", &format!("postgresql://host/db?password={encoded}&user=svc@corp.example"))]),
            17 => env(&[("DATABASE_URL", &format!("postgresql://host?password={password}@x&user=u@y"))]),
            18 => env(&[("DATABASE_URL", &format!("postgresql://host/db?sslpassword={encoded}"))]),
            19 => env(&[("DB_HOST", &format!("postgresql://u:{password}@h/d"))]),
            20 => env(&[("DB_NAME", &format!("postgresql://u:{password}@h/d")), ("DB_USER", &format!("u:{password}@h://"))]),
            14 => World::new().arg(&format!("--db-pass={password}")).arg("--db-host=h"),
            _ => env(&[("DB_PASS_FILE", "pw"), ("DATABASE_URL", "postgresql://u:p@h/d")])
                .file("pw", &password),
        };
        let output = everything(&world);
        prop_assert!(!output.contains(&password), "{}", output);
        for piece in pieces(&password) {
            prop_assert!(!output.contains(piece), "{} in {}", piece, output);
        }
    }

    #[test]
    fn an_encoded_password_reaches_the_driver_unchanged(password in "\\PC{1,20}") {
        let url = format!("postgresql://user:{}@host/db", percent(&password));
        let config = env(&[("DATABASE_URL", &url)]).settings().postgres;
        prop_assert_eq!(config.server.get_password(), Some(password.as_bytes()));
    }

    #[test]
    fn no_file_makes_loading_panic(text in "(\\PC|[A-Z_=\"'\n\\[\\]\\{\\}$.]){0,80}") {
        let world = World::new().file(".env", &text).file("cenote.toml", &text);
        let _ = everything(&world);
    }
}
