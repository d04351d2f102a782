//! `cenote`: serve, check, migrate, config, openapi. See `cenote --help`.

fn main() -> std::process::ExitCode {
    cenote::commands::run()
}
