//! Splits SQL into tokens where PostgreSQL's scanner does.
//!
//! Invariant: comments, strings and quoted names are those that the server finds, or the text is
//! [doubtful](Tokens::is_doubtful).

/// A token of SQL. Blanks and comments are skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    /// A keyword, or a name without quotes.
    Word(&'a str),
    /// A name in double quotes, without the quotes. Quotes inside it are still doubled.
    Quoted(&'a str),
    /// A string in single quotes, with any prefix letter.
    Text,
    /// The text between dollar quotes.
    Dollar(&'a str),
    /// A sequence of digits.
    Number,
    /// Any other single character.
    Symbol(char),
}

impl Token<'_> {
    /// Whether the token is this keyword.
    pub(crate) fn is_word(self, keyword: &str) -> bool {
        matches!(self, Self::Word(word) if word.eq_ignore_ascii_case(keyword))
    }

    /// Whether the token is this name, quoted or not. `name` is in lower case.
    pub(crate) fn is_name(self, name: &str) -> bool {
        match self {
            Self::Quoted(quoted) => quoted == name,
            token => token.is_word(name),
        }
    }
}

/// The tokens of a text.
#[derive(Clone, Debug)]
pub(crate) struct Tokens<'a> {
    rest: &'a str,
    doubtful: bool,
}

/// Returns the tokens of a text. An unfinished string or comment ends with the text: the server refuses it anyway.
pub(crate) fn tokens(sql: &str) -> Tokens<'_> {
    Tokens {
        rest: sql,
        doubtful: false,
    }
}

impl<'a> Tokens<'a> {
    /// Whether the meaning of the text so far depends on the session: a backslash in a plain string
    /// (`standard_conforming_strings`), or a name with Unicode escapes.
    pub(crate) fn is_doubtful(&self) -> bool {
        self.doubtful
    }

    /// Takes this number of bytes.
    fn take(&mut self, length: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        taken
    }

    fn skip_blanks_and_comments(&mut self) {
        loop {
            self.rest = self.rest.trim_start_matches(is_blank);
            if self.rest.starts_with("--") {
                let end = self.rest.find(['\n', '\r']);
                self.take(end.unwrap_or(self.rest.len()));
            } else if self.rest.starts_with("/*") {
                self.take(block_comment(self.rest));
            } else {
                return;
            }
        }
    }

    /// Takes a quoted text, and returns it without the quotes.
    fn quoted(&mut self, quote: char, escapes: bool) -> &'a str {
        let inside = &self.rest[1..];
        let mut characters = inside.char_indices().peekable();
        while let Some((at, c)) = characters.next() {
            if c == '\\' && escapes {
                characters.next();
            } else if c == quote && characters.next_if(|(_, next)| *next == quote).is_none() {
                self.take(at + 2);
                return &inside[..at];
            }
        }
        self.rest = "";
        inside
    }

    /// Takes a string. `prefix` is the letter before its quote.
    fn text(&mut self, prefix: Option<u8>) -> Token<'a> {
        let escapes = matches!(prefix, Some(b'e' | b'E'));
        let is_plain = matches!(prefix, None | Some(b'n' | b'N'));
        let text = self.quoted('\'', escapes);
        self.doubtful |= is_plain && text.contains('\\');
        if escapes {
            self.continuations();
        }
        Token::Text
    }

    /// Takes the continuations of a string with escapes. It continues on the next line, by the same rules.
    fn continuations(&mut self) {
        loop {
            let mut after = self.clone();
            after.skip_blanks_and_comments();
            let between = &self.rest[..self.rest.len() - after.rest.len()];
            if !after.rest.starts_with('\'') || !between.contains(['\n', '\r']) {
                return;
            }
            // After a block comment the string does not continue, and the next one is a plain string.
            self.doubtful |= between.contains("/*");
            self.rest = after.rest;
            self.quoted('\'', true);
        }
    }

    /// Takes a string in dollar quotes, if there is one.
    fn dollar(&mut self) -> Option<Token<'a>> {
        let after = &self.rest[1..];
        let tag = after.find(|c: char| !is_word_part(c) || c == '$')?;
        if !after[tag..].starts_with('$') || after.starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        let delimiter = self.take(tag + 2);
        let end = self.rest.find(delimiter);
        let body = self.take(end.unwrap_or(self.rest.len()));
        if end.is_some() {
            self.take(delimiter.len());
        }
        Some(Token::Dollar(body))
    }

    fn word(&mut self) -> Token<'a> {
        let end = self.rest.find(|c| !is_word_part(c));
        let word = self.take(end.unwrap_or(self.rest.len()));
        match (word.as_bytes(), self.rest.as_bytes()) {
            ([prefix @ (b'e' | b'E' | b'b' | b'B' | b'x' | b'X' | b'n' | b'N')], [b'\'', ..]) => {
                self.text(Some(*prefix))
            }
            ([b'u' | b'U'], [b'&', b'\'', ..]) => {
                self.take(1);
                self.quoted('\'', false);
                Token::Text
            }
            ([b'u' | b'U'], [b'&', b'"', ..]) => {
                self.take(1);
                self.doubtful = true;
                Token::Quoted(self.quoted('"', false))
            }
            _ => Token::Word(word),
        }
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        self.skip_blanks_and_comments();
        let first = self.rest.chars().next()?;
        Some(match first {
            '\'' => self.text(None),
            '"' => Token::Quoted(self.quoted('"', false)),
            '0'..='9' => {
                self.rest = self.rest.trim_start_matches(|c: char| c.is_ascii_digit());
                Token::Number
            }
            '$' => match self.dollar() {
                Some(body) => body,
                None => {
                    self.take(1);
                    Token::Symbol('$')
                }
            },
            c if is_word_part(c) => self.word(),
            c => {
                self.take(c.len_utf8());
                Token::Symbol(c)
            }
        })
    }
}

/// Whether the server skips a character between tokens. The vertical tab is skipped since version 16, and is an error
/// before.
fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

/// Whether a character can continue a name. A name cannot begin with a digit or a dollar sign.
fn is_word_part(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '$') || !c.is_ascii()
}

/// Returns the length of the comment at the start of the text. Comments nest.
fn block_comment(text: &str) -> usize {
    let bytes = text.as_bytes();
    let (mut at, mut depth) = (0, 0_u32);
    while let Some(pair) = bytes.get(at..at + 2) {
        match pair {
            b"/*" => depth += 1,
            b"*/" => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

#[cfg(test)]
#[path = "lexer_tests.rs"]
mod tests;
