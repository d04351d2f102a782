//! `.env` files: no text makes the reader panic, and a value in single quotes is taken literally.
#![no_main]

use std::{fs, path::PathBuf, sync::OnceLock};

use libfuzzer_sys::fuzz_target;

/// One directory with a fixed name: creating one for each text would take most of the time, and a random one would stay.
fn directory() -> &'static PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        let directory = std::env::temp_dir().join(format!("cenote-fuzz-dotenv-{}", std::process::id() % 8));
        fs::create_dir_all(&directory).expect("a directory");
        directory
    })
}

fuzz_target!(|text: &str| {
    let command = clap::Command::new("cenote").args(cenote::settings::args());
    let matches = command.get_matches_from(["cenote"]);
    let load = |content: &str| {
        fs::write(directory().join(".env"), content).expect("a file");
        cenote::settings::load(&matches, [("", ""); 0], directory())
    };
    drop(load(text));
    // `'` ends the value, `\` may escape it, and a NUL byte is refused.
    let literal: String = text.chars().filter(|c| !"'\\\0\r".contains(*c)).collect();
    drop(load(&format!("DB_HOST=localhost\nDB_PASSWORD='{literal}'")));
});
