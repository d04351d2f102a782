//! Hexadecimal digits for names in Redis. Invariant: two digits a byte, lower case, as `SCRIPT LOAD` names scripts.

use std::fmt::Write as _;

pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut digits = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _infallible = write!(digits, "{byte:02x}");
    }
    digits
}
