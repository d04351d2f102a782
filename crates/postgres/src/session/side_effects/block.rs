//! Recognizes `DO` blocks in PL/pgSQL that do not change the session.
//!
//! Invariant: only known statements pass. Functions that they call are not seen, as in a plain `SELECT`.

use crate::session::lexer::{Token, tokens};

/// The keywords with which a statement of a harmless block may begin. `CALL`, `DO`, `EXECUTE`, `SET`, `CREATE` and
/// others are not among them.
const KNOWN: [&str; 26] = [
    "begin",
    "declare",
    "exception",
    "end",
    "if",
    "elsif",
    "elseif",
    "else",
    "case",
    "when",
    "loop",
    "while",
    "for",
    "foreach",
    "exit",
    "continue",
    "return",
    "raise",
    "assert",
    "null",
    "perform",
    "select",
    "with",
    "insert",
    "update",
    "delete",
];
/// Keywords after which a statement begins without a semicolon.
const OPENING: [&str; 6] = ["begin", "then", "else", "loop", "declare", "exception"];

/// The tokens of the block that follows `DO`; `None` unless it is in PL/pgSQL and has one meaning in every session.
pub(super) fn tokens_of<'a>(rest: &[Token<'a>]) -> Option<Vec<Token<'a>>> {
    let body = match rest {
        [Token::Dollar(body)] => body,
        [language, name, Token::Dollar(body)] | [Token::Dollar(body), language, name]
            if language.is_word("language") && name.is_name("plpgsql") =>
        {
            body
        }
        _ => return None,
    };
    let mut all = tokens(body);
    let tokens: Vec<Token<'_>> = all.by_ref().collect();
    (!all.is_doubtful()).then_some(tokens)
}

/// Whether a block consists of statements in [`KNOWN`] alone.
pub(super) fn has_only_known(tokens: &[Token<'_>]) -> bool {
    // In a section of declarations a line begins with any name.
    let mut declares = false;
    (0..tokens.len()).all(|at| {
        let token = tokens[at];
        // Any statement with EXECUTE runs a text that is built at run time.
        if token.is_word("execute") {
            return false;
        }
        let begins = match &tokens[..at] {
            // `>>` ends a label.
            [] | [.., Token::Symbol(';')] | [.., Token::Symbol('>'), Token::Symbol('>')] => true,
            [.., before] => OPENING.iter().any(|word| before.is_word(word)),
        };
        let Token::Word(word) = token else {
            return true;
        };
        if !begins {
            return true;
        }
        declares = (declares || token.is_word("declare")) && !token.is_word("begin");
        let assigns = matches!(tokens.get(at + 1), Some(Token::Symbol(':' | '=' | '.' | '[')));
        declares || assigns || KNOWN.iter().any(|known| word.eq_ignore_ascii_case(known))
    })
}
