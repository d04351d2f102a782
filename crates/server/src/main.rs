//! `cenote`: serve, check, migrate, key, config, openapi. See `cenote --help`.

fn main() -> std::process::ExitCode {
    cenote::commands::run()
}
