//! Which e-mail addresses are taken: those that the Python package `email-validator` takes, as pydantic's `EmailStr` uses
//! it, without asking the DNS.
//!
//! Invariant: an address that is taken is one dot-atom before the `@` and one domain name behind it (RFC 5321, RFC 6531,
//! RFC 5890); nothing of it is changed. Four things differ. The part before the `@` has at most 64 characters (RFC 5321).
//! Special-use domains such as `.test` and `.local` are taken, since services use them inside. A display name and angle
//! brackets are not part of an address, and spaces around it are not removed, since an address is kept as it came.

use idna::{
    AsciiDenyList,
    uts46::{DnsLength, Hyphens, Uts46},
};
use unicode_normalization::UnicodeNormalization;
use unicode_properties::{GeneralCategory as Category, GeneralCategoryGroup as Group, UnicodeGeneralCategory};

/// Bytes of an address (RFC 5321, erratum 1690 of RFC 3696).
pub(super) const LONGEST: usize = 254;
/// Characters before the `@`.
const LONGEST_LOCAL: usize = 64;

/// A garde rule, `#[garde(custom(valid))]`: mail could be sent there.
pub(super) fn valid(address: &str, _context: &()) -> garde::Result {
    judge(address).map_err(garde::Error::new)
}

fn judge(address: &str) -> Result<(), &'static str> {
    if address.len() > LONGEST {
        return Err("must not be longer than 254 bytes");
    }
    let (local, domain) = address.split_once('@').ok_or("must have an @")?;
    judge_local(local)?;
    let normal: String = local.nfc().collect();
    if normal != local {
        judge_local(&normal)?;
    }
    let ascii_domain = judge_domain(domain)?;
    match normal.len() + 1 + ascii_domain.len() {
        0..=LONGEST => Ok(()),
        _ => Err("must not be longer than 254 bytes, its domain as Punycode"),
    }
}

/// What stands before the `@`.
fn judge_local(local: &str) -> Result<(), &'static str> {
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
    judge_characters(local)
}

/// What stands behind the `@`. Returns it as the DNS has it.
fn judge_domain(domain: &str) -> Result<String, &'static str> {
    const ODD: &str = "has a character behind the @ that no domain has";
    if domain.is_empty() {
        return Err("must have something behind the @");
    }
    let is_host = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.' || !c.is_ascii();
    if !domain.chars().all(is_host) {
        return Err(ODD);
    }
    judge_characters(domain)?;
    let names = Uts46::new();
    let ascii = names
        .to_ascii(
            domain.as_bytes(),
            AsciiDenyList::STD3,
            Hyphens::Check,
            DnsLength::Verify,
        )
        .map_err(|_| "must have a domain name behind the @")?;
    // UTS 46 lets symbols pass that IDNA 2008 does not.
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

/// Letters, digits and marks of any script, and what RFC 5892 adds to them.
fn is_in_domain(c: char) -> bool {
    use Category::{DecimalNumber, LowercaseLetter, ModifierLetter, NonspacingMark, OtherLetter, SpacingMark};
    let exceptions = "-.\u{b7}\u{375}\u{5f3}\u{5f4}\u{30fb}\u{200c}\u{200d}\u{6fd}\u{6fe}\u{f0b}\u{3007}";
    exceptions.contains(c)
        || matches!(
            c.general_category(),
            LowercaseLetter | OtherLetter | ModifierLetter | NonspacingMark | SpacingMark | DecimalNumber
        )
}

/// Letters, numbers, punctuation, symbols, and marks that follow one of these.
fn judge_characters(part: &str) -> Result<(), &'static str> {
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
    fn an_address_of_254_bytes_is_taken_and_one_of_255_is_not() {
        let domain = format!("{}.example.org", vec!["x".repeat(60); 3].join("."));
        let local = "x".repeat(LONGEST - domain.len() - 1);
        assert_eq!(judge(&format!("{local}@{domain}")), Ok(()));
        assert!(judge(&format!("{local}x@{domain}")).is_err());
        assert!(judge(&format!("{}@example.org", "x".repeat(64))).is_ok());
        assert!(judge(&format!("{}@example.org", "x".repeat(65))).is_err());
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd(text in any::<String>(), domain in any::<String>()) {
            let _either = judge(&text);
            let _either = judge(&format!("{text}@{domain}.org"));
        }
    }
}
