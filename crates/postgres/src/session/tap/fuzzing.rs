//! What a fuzzer is let in to: the follower of message frames. Invariant: compiled for a fuzzer alone.

use super::frames::Frames;

/// Follows bytes, each piece said by the server (`true`) or by the client, and gives the state they lead to.
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
