//! `cenote`: serve, check, migrate, config, openapi. See `cenote --help`.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    cenote::commands::run()
}
