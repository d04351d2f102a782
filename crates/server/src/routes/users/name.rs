//! The rule for names of users. Invariant: a valid name is visible, stays on one line, and does not change how the text
//! around it is displayed.

use unicode_properties::{GeneralCategory as Category, GeneralCategoryGroup as Group, UnicodeGeneralCategory};

/// Most characters of a name.
const LONGEST: usize = 200;

/// A garde rule, `#[garde(custom(valid))]`.
pub(super) fn valid(name: &str, _context: &()) -> garde::Result {
    check(name).map_err(garde::Error::new)
}

fn check(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("must not be empty");
    }
    if name.chars().count() > LONGEST {
        return Err("must not be longer than 200 characters");
    }
    for c in name.chars() {
        match c.general_category() {
            Category::Control => return Err("must not contain control characters"),
            Category::LineSeparator | Category::ParagraphSeparator => {
                return Err("must not contain line breaks");
            }
            _ if is_direction(c) => {
                return Err("must not contain characters that change the direction of text");
            }
            _ => {}
        }
    }
    let mut shown = name.chars().filter(|c| is_shown(*c));
    match shown.next() {
        None => Err("must not consist of blanks and invisible characters"),
        // It would combine with the character that is displayed before the name.
        Some(first) if first.general_category_group() == Group::Mark => Err("must not begin with a combining mark"),
        Some(_) => Ok(()),
    }
}

/// Whether the character is an embedding, override, isolate or mark of direction (Unicode's `Bidi_Control`).
fn is_direction(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn is_shown(c: char) -> bool {
    let is_blank = c.is_whitespace() || matches!(c, '\u{2800}');
    // Fillers, which are letters by their category but invisible, and variation selectors.
    let is_filler = matches!(c, '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{3164}' | '\u{ffa0}' | '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}');
    let is_invisible = matches!(c.general_category(), Category::Control | Category::Format);
    !is_blank && !is_filler && !is_invisible
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_of_any_script_are_valid_and_invisible_or_direction_changing_ones_are_not() {
        for name in [
            "Ada",
            "Ada Lovelace",
            "ñ",
            "José",
            "Jose\u{301}",
            "李小龍",
            "محمد",
            "דוד",
            "O’Brien",
            " x ",
            "42",
            "👩‍🚀",
            "नमस्ते",
            "می‌خواهم",
            "X Æ A-12",
            "<b>",
            "'; DROP TABLE users",
            "½",
        ] {
            assert_eq!(check(name), Ok(()), "{name:?}");
        }
        for (name, why) in [
            ("", "empty"),
            (" ", "blanks"),
            ("\u{a0}\u{3000}", "blanks"),
            ("\u{200b}", "blanks"),
            ("\u{200d}\u{feff}", "blanks"),
            ("\u{3164}", "blanks"),
            ("\u{2800}", "blanks"),
            ("a\0b", "control"),
            ("a\nb", "control"),
            ("a\tb", "control"),
            ("a\u{7f}", "control"),
            ("a\u{85}", "control"),
            ("\u{1b}[31m", "control"),
            ("a\u{2028}b", "line breaks"),
            ("a\u{202e}b", "direction"),
            ("\u{2066}a\u{2069}", "direction"),
            ("a\u{200f}", "direction"),
            ("\u{301}", "combining"),
            ("\u{301}a", "combining"),
            (" \u{301}a", "combining"),
        ] {
            let refused = check(name).unwrap_err();
            assert!(refused.contains(why), "{name:?}: {refused}");
        }
        assert_eq!(check(&"ñ".repeat(200)), Ok(()));
        assert!(check(&"ñ".repeat(201)).is_err());
    }

    proptest! {
        #[test]
        fn every_text_is_judged_without_a_panic(text in any::<String>()) {
            let _either = check(&text);
        }
    }
}
