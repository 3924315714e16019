//! The pieces of an SQL text.

use std::ops::Range;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A word, in lower case.
    Word(String),
    /// A name in double quotes, as it is.
    Name(String),
    /// A string, as it is between its quotes.
    Text(String),
    Sign(char),
}

pub(super) struct Tokens<'a> {
    pub(super) sql: &'a str,
    pub(super) all: Vec<(Token, Range<usize>)>,
}

/// The pieces of the text without comments; an error where a quote is not closed.
pub(super) fn tokens(sql: &str) -> Result<Tokens<'_>, String> {
    let mut all: Vec<(Token, Range<usize>)> = Vec::new();
    let mut at = 0;
    let open = || "a quote or comment in it is not closed".to_owned();
    while let Some(c) = sql[at..].chars().next() {
        let rest = &sql[at..];
        let (token, length) = match c {
            c if c.is_whitespace() => {
                at += c.len_utf8();
                continue;
            }
            '-' if rest.starts_with("--") => {
                at += rest.find('\n').unwrap_or(rest.len());
                continue;
            }
            '/' if rest.starts_with("/*") => {
                at += rest.find("*/").ok_or_else(open)? + 2;
                continue;
            }
            '\'' | '"' => {
                let (text, length) = until(rest, c).ok_or_else(open)?;
                // In `E'…'` a backslash may hide the quote that seems to end it.
                let escapes = matches!(all.last(), Some((Token::Word(word), place)) if word == "e" && place.end == at);
                if escapes && text.contains('\\') {
                    return Err("a string with escapes (`E'…'`) in it is not understood".to_owned());
                }
                let token = if c == '"' {
                    Token::Name(text)
                } else {
                    Token::Text(text)
                };
                (token, length)
            }
            '$' => {
                let tag = rest[1..].find('$').map(|end| &rest[..end + 2]);
                let tag = tag.filter(|tag| {
                    tag[1..tag.len() - 1]
                        .chars()
                        .all(|c| c.is_alphanumeric() || c == '_')
                });
                match tag {
                    Some(tag) => {
                        let end = rest[tag.len()..].find(tag).ok_or_else(open)?;
                        let text = rest[tag.len()..tag.len() + end].to_owned();
                        (Token::Text(text), end + 2 * tag.len())
                    }
                    None => (Token::Sign('$'), 1),
                }
            }
            c if c.is_alphanumeric() || c == '_' => {
                let plain = |c: char| c.is_alphanumeric() || c == '_';
                let length = rest.find(|c| !plain(c)).unwrap_or(rest.len());
                (Token::Word(rest[..length].to_lowercase()), length)
            }
            c => (Token::Sign(c), c.len_utf8()),
        };
        all.push((token, at..at + length));
        at += length;
    }
    Ok(Tokens { sql, all })
}

/// What is between quotes, those that are doubled read as one, and how long it is with them.
fn until(text: &str, quote: char) -> Option<(String, usize)> {
    let mut inner = String::new();
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            c if c == quote && chars.peek().is_some_and(|(_, next)| *next == quote) => {
                chars.next();
                inner.push(quote);
            }
            c if c == quote => return Some((inner, at + 1)),
            c => inner.push(c),
        }
    }
    None
}

impl Tokens<'_> {
    pub(super) fn word(&self, n: usize) -> &str {
        match self.all.get(n) {
            Some((Token::Word(word), _)) => word,
            _ => "",
        }
    }

    pub(super) fn is(&self, n: usize, sign: char) -> bool {
        self.all
            .get(n)
            .is_some_and(|(token, _)| *token == Token::Sign(sign))
    }

    /// The text of these tokens, as it was written.
    pub(super) fn text(&self, range: Range<usize>) -> &str {
        let begin = self.all.get(range.start).map_or(0, |(_, at)| at.start);
        let end = range.end.checked_sub(1).and_then(|last| self.all.get(last));
        end.map_or("", |(_, at)| &self.sql[begin..at.end.max(begin)])
    }

    /// A name from `n` on, with its schema where there is one, and where it ends.
    pub(super) fn name(&self, n: usize) -> Option<(Option<String>, String, usize)> {
        let part = |n: usize| match self.all.get(n) {
            Some((Token::Word(name) | Token::Name(name), _)) => Some(name.clone()),
            _ => None,
        };
        let first = part(n)?;
        if !self.is(n + 1, '.') {
            return Some((None, first, n + 1));
        }
        Some((Some(first), part(n + 2)?, n + 3))
    }
}
