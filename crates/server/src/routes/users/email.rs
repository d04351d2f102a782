//! The rule for e-mail addresses. It accepts what the Python package `email-validator` accepts without asking the DNS, as
//! pydantic's `EmailStr` uses it.
//!
//! Invariant: a valid address is one dot-atom before the `@` and one domain name behind it (RFC 5321, RFC 6531, RFC 5890).
//! The address is not changed.
//!
//! Differences from `email-validator`:
//!
//! - The part before the `@` has at most 64 characters (RFC 5321).
//! - Special-use domains such as `.test` and `.local` are valid, because services use them internally.
//! - A display name, angle brackets and surrounding spaces are not valid, because the address is stored as it came.

use idna::{
    AsciiDenyList,
    uts46::{DnsLength, Hyphens, Uts46},
};
use unicode_normalization::UnicodeNormalization;
use unicode_properties::{GeneralCategory as Category, GeneralCategoryGroup as Group, UnicodeGeneralCategory};

/// Most bytes of an address (RFC 5321, erratum 1690 of RFC 3696).
const LONGEST: usize = 254;
/// Most characters before the `@`.
const LONGEST_LOCAL: usize = 64;

/// A garde rule, `#[garde(custom(valid))]`: mail could be sent to the address.
pub(super) fn valid(address: &str, _context: &()) -> garde::Result {
    check(address).map_err(garde::Error::new)
}

fn check(address: &str) -> Result<(), &'static str> {
    if address.len() > LONGEST {
        return Err("must not be longer than 254 bytes");
    }
    let (local, domain) = address.split_once('@').ok_or("must have an @")?;
    check_local(local)?;
    let normal: String = local.nfc().collect();
    if normal != local {
        check_local(&normal)?;
    }
    let ascii_domain = check_domain(domain)?;
    match normal.len() + 1 + ascii_domain.len() {
        0..=LONGEST => Ok(()),
        _ => Err("must not be longer than 254 bytes, its domain as Punycode"),
    }
}

/// Checks the part before the `@`.
fn check_local(local: &str) -> Result<(), &'static str> {
    if local.is_empty() {
        return Err("must have something before the @");
    }
    if local.chars().count() > LONGEST_LOCAL {
        return Err("must not have more than 64 characters before the @");
    }
    if local.starts_with('.') || local.ends_with('.') || local.contains("..") {
        return Err("must not have a dot at the start, at the end or beside another before the @");
    }
    let is_atext = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c);
    if !local.chars().all(|c| is_atext(c) || !c.is_ascii()) {
        return Err("has a character before the @ that no address has");
    }
    check_characters(local)
}

/// Checks the part behind the `@`. Returns it in the form that the DNS uses.
fn check_domain(domain: &str) -> Result<String, &'static str> {
    const ODD: &str = "has a character behind the @ that no domain has";
    if domain.is_empty() {
        return Err("must have something behind the @");
    }
    let is_host = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.' || !c.is_ascii();
    if !domain.chars().all(is_host) {
        return Err(ODD);
    }
    check_characters(domain)?;
    let names = Uts46::new();
    let ascii = names
        .to_ascii(
            domain.as_bytes(),
            AsciiDenyList::STD3,
            Hyphens::Check,
            DnsLength::Verify,
        )
        .map_err(|_| "must have a domain name behind the @")?;
    // UTS 46 accepts symbols that IDNA 2008 does not.
    let (unicode, valid) = names.to_unicode(ascii.as_bytes(), AsciiDenyList::STD3, Hyphens::Check);
    valid.map_err(|_| "must have a domain name behind the @")?;
    if !unicode.chars().all(is_in_domain) {
        return Err(ODD);
    }
    match ascii.rsplit_once('.') {
        None => Err("must have a dot behind the @"),
        Some((_, top)) if !top.ends_with(|c: char| c.is_ascii_alphabetic()) => Err("must end with a top-level domain"),
        Some(_) => Ok(ascii.into_owned()),
    }
}

/// Whether the character is a letter, digit or mark of any script, or one of the exceptions of RFC 5892.
fn is_in_domain(c: char) -> bool {
    use Category::{DecimalNumber, LowercaseLetter, ModifierLetter, NonspacingMark, OtherLetter, SpacingMark};
    let exceptions = "-.\u{b7}\u{375}\u{5f3}\u{5f4}\u{30fb}\u{200c}\u{200d}\u{6fd}\u{6fe}\u{f0b}\u{3007}";
    exceptions.contains(c)
        || matches!(
            c.general_category(),
            LowercaseLetter | OtherLetter | ModifierLetter | NonspacingMark | SpacingMark | DecimalNumber
        )
}

/// Checks that a part has only letters, numbers, punctuation, symbols, and marks that follow one of these.
fn check_characters(part: &str) -> Result<(), &'static str> {
    for (at, c) in part.chars().enumerate() {
        match c.general_category_group() {
            Group::Letter | Group::Number | Group::Punctuation | Group::Symbol => {}
            Group::Mark if at > 0 => {}
            Group::Mark => return Err("has a combining mark that follows no letter"),
            Group::Separator => return Err("must not contain blanks"),
            Group::Other => {
                return Err("must not contain control, direction or other invisible characters");
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_address_of_254_bytes_is_valid_and_one_of_255_is_not() {
        let domain = format!("{}.example.org", vec!["x".repeat(60); 3].join("."));
        let local = "x".repeat(LONGEST - domain.len() - 1);
        assert_eq!(check(&format!("{local}@{domain}")), Ok(()));
        assert!(check(&format!("{local}x@{domain}")).is_err());
        assert!(check(&format!("{}@example.org", "x".repeat(64))).is_ok());
        assert!(check(&format!("{}@example.org", "x".repeat(65))).is_err());
    }

    proptest! {
        #[test]
        fn every_text_is_judged_without_a_panic(text in any::<String>(), domain in any::<String>()) {
            let _either = check(&text);
            let _either = check(&format!("{text}@{domain}.org"));
        }
    }
}
