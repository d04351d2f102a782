//! Which names are taken. Invariant: a name that is taken shows something, on one line, and does not change how the text
//! around it reads.

use unicode_properties::{GeneralCategory as Category, GeneralCategoryGroup as Group, UnicodeGeneralCategory};

/// Characters of a name.
pub(super) const LONGEST: usize = 200;

/// A garde rule, `#[garde(custom(valid))]`.
pub(super) fn valid(name: &str, _context: &()) -> garde::Result {
    judge(name).map_err(garde::Error::new)
}

fn judge(name: &str) -> Result<(), &'static str> {
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
        // It would join whatever is shown before the name.
        Some(first) if first.general_category_group() == Group::Mark => Err("must not begin with a combining mark"),
        Some(_) => Ok(()),
    }
}

/// Embeddings, overrides, isolates and marks of direction (Unicode's `Bidi_Control`).
fn is_direction(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn is_shown(c: char) -> bool {
    let is_blank = c.is_whitespace() || matches!(c, '\u{2800}');
    // Letters by category, but fillers that show nothing; and selectors of a variant.
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
    fn names_of_any_script_are_taken_and_what_shows_nothing_or_turns_text_round_is_not() {
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
            assert_eq!(judge(name), Ok(()), "{name:?}");
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
            let refused = judge(name).unwrap_err();
            assert!(refused.contains(why), "{name:?}: {refused}");
        }
        assert_eq!(judge(&"ñ".repeat(200)), Ok(()));
        assert!(judge(&"ñ".repeat(201)).is_err());
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd(text in any::<String>()) {
            let _either = judge(&text);
        }
    }
}
