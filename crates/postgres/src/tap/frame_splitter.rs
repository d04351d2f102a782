//! Splits one direction of a conversation into messages.
//!
//! Bodies are skipped. Only the first bytes of the few bodies that matter are copied, so that they are complete even if
//! they arrive in pieces.
//!
//! Invariant: the messages found do not depend on how the bytes were split.

/// Long enough for every command tag and, in an ErrorResponse, for severity and SQLSTATE, which PostgreSQL sends before
/// the text.
pub(super) const KEPT: usize = 64;

/// A tag byte and a length; an untyped message has no tag.
const HEADER: usize = 5;

/// The bytes are not messages: a length is shorter than its own field.
#[derive(Debug)]
pub(super) struct Garbled;

pub(super) struct FrameSplitter {
    /// The header received so far. The first byte is not used for an untyped message.
    header: [u8; HEADER],
    /// The number of header bytes received; all of them while in a body.
    have: usize,
    /// The number of body bytes that are still missing.
    left: usize,
    /// The first bytes of the body, if it is kept.
    body: [u8; KEPT],
    kept: usize,
    keeps: bool,
    /// Whether the next message has no tag byte, like the first one of a client.
    untyped: bool,
}

impl FrameSplitter {
    pub(super) fn new(untyped: bool) -> Self {
        Self {
            header: [0; HEADER],
            have: usize::from(untyped),
            left: 0,
            body: [0; KEPT],
            kept: 0,
            keeps: false,
            untyped,
        }
    }

    /// From the next message on, messages have tag bytes.
    pub(super) fn expect_typed(&mut self) {
        self.untyped = false;
        self.have = 0;
    }

    /// Whether a message has begun and not ended.
    pub(super) fn is_amid(&self) -> bool {
        self.have > usize::from(self.untyped)
    }

    /// Returns the first bytes of the last message's body, if it was kept.
    pub(super) fn body(&self) -> &[u8] {
        &self.body[..self.kept]
    }

    /// Takes bytes up to the end of the next message and returns its tag (zero for an untyped one). Takes all bytes and
    /// returns `None` if the message does not end in them. `keep` decides by the tag whether the body is kept.
    #[inline]
    pub(super) fn next(&mut self, bytes: &mut &[u8], keep: impl Fn(u8) -> bool) -> Result<Option<u8>, Garbled> {
        if self.have < HEADER {
            let wanted = HEADER - self.have;
            // Almost always the whole header is there. Copying a constant number of bytes is cheaper than calling
            // memcpy.
            if let Some((whole, rest)) = bytes.split_first_chunk::<HEADER>()
                && wanted == HEADER
            {
                self.header = *whole;
                *bytes = rest;
            } else {
                let (head, rest) = bytes.split_at(wanted.min(bytes.len()));
                self.header[self.have..self.have + head.len()].copy_from_slice(head);
                *bytes = rest;
                self.have += head.len();
                if self.have < HEADER {
                    return Ok(None);
                }
            }
            let [tag, length @ ..] = self.header;
            // Also if the length makes no sense: the state must not depend on how the header arrived.
            self.have = HEADER;
            // The length counts itself.
            let length = u32::from_be_bytes(length) as usize;
            self.left = length.checked_sub(4).ok_or(Garbled)?;
            self.kept = 0;
            self.keeps = keep(tag);
            // Most messages: the whole body is there and is not kept.
            if !self.keeps
                && let Some(rest) = bytes.get(self.left..)
            {
                *bytes = rest;
                self.left = 0;
                self.have = usize::from(self.untyped);
                return Ok(Some(tag));
            }
        }

        let (part, rest) = bytes.split_at(self.left.min(bytes.len()));
        *bytes = rest;
        self.left -= part.len();
        if self.keeps {
            let part = &part[..part.len().min(KEPT - self.kept)];
            self.body[self.kept..self.kept + part.len()].copy_from_slice(part);
            self.kept += part.len();
        }
        if self.left > 0 {
            return Ok(None);
        }
        self.have = usize::from(self.untyped);
        Ok(Some(self.header[0]))
    }
}
