//! The entry point of the fuzzer of message frames. Invariant: compiled only for the fuzzer.

use super::frames::Frames;

/// Follows pieces of bytes, each sent by the server (`true`) or by the client, and returns the final state.
pub fn follow<'a>(said: impl IntoIterator<Item = (bool, &'a [u8])>) -> (u32, Option<&'static str>) {
    let mut frames = Frames::new();
    for (server, bytes) in said {
        match server {
            true if frames.on_read(bytes).is_err() => break,
            true => {}
            false => frames.on_write(bytes),
        }
    }
    (frames.bits(), frames.fault().map(|fault| fault.as_str()))
}
