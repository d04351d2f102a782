//! cenote
fn main() {}
