//! What a statement of the user's is, as far as that decides how it is carried out.

use crate::plan::{Param, Query};

/// How a statement is carried out by the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Nature {
    /// All of it or nothing, or at least nothing that a second try would spoil.
    Whole,
    /// It may commit on its way (`CALL`, `DO`, subscriptions): a second try does again what the
    /// first one has done.
    InParts,
    /// A concurrent change of an index or of a partition, in several transactions. One that is
    /// given up leaves something behind.
    Concurrent(Leaves),
}

/// What a concurrent change that came to nothing leaves behind, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Leaves {
    /// Invalid indexes of this table, or of the table of this index; of every table where there is
    /// no name.
    Indexes(Option<String>),
    /// Partitions of this table that are neither attached nor detached.
    Partitions(String),
}

/// A statement without its comments, piece by piece: words, names, strings, signs.
pub(super) struct Pieces<'a>(Vec<&'a str>);

impl<'a> Pieces<'a> {
    pub(super) fn of(sql: &'a str) -> Pieces<'a> {
        let (mut pieces, mut rest) = (Vec::new(), sql);
        while let Some(c) = rest.chars().next() {
            let length = match c {
                '-' if rest.starts_with("--") => {
                    rest = rest.find('\n').map_or("", |end| &rest[end..]);
                    continue;
                }
                '/' if rest.starts_with("/*") => {
                    rest = behind_comment(rest);
                    continue;
                }
                c if c.is_whitespace() => {
                    rest = &rest[c.len_utf8()..];
                    continue;
                }
                '\'' | '"' => quoted(rest, c),
                '$' => dollars(rest),
                c if is_plain(c) => rest.find(|c| !is_plain(c)).unwrap_or(rest.len()),
                c => c.len_utf8(),
            };
            let (piece, behind) = rest.split_at(length);
            pieces.push(piece);
            rest = behind;
        }
        Pieces(pieces)
    }

    /// The first word, in upper case; empty where there is no statement.
    pub(super) fn first(&self) -> String {
        let first = self.0.iter().find(|piece| **piece != ";");
        first.copied().unwrap_or_default().to_uppercase()
    }

    /// Whether it vacuums or analyzes whatever the role may, and names no table.
    pub(super) fn means_all_tables(&self) -> bool {
        if !matches!(self.first().as_str(), "VACUUM" | "ANALYZE" | "ANALYSE") {
            return false;
        }
        let mut depth = 0_usize;
        let begins = self.0.iter().position(|piece| *piece != ";").unwrap_or(0);
        self.0.iter().skip(begins + 1).all(|piece| match *piece {
            "(" => {
                depth += 1;
                true
            }
            ")" => {
                depth = depth.saturating_sub(1);
                true
            }
            piece => {
                let word = ["FULL", "FREEZE", "VERBOSE", "ANALYZE", "ANALYSE", ";"];
                depth > 0 || word.iter().any(|word| same(piece, word))
            }
        })
    }

    /// Whether there is more than one statement. A rule has several in parentheses, and a function
    /// of standard SQL (`BEGIN ATOMIC`) in its body.
    pub(super) fn are_several(&self) -> bool {
        let mut depth = 0_usize;
        let mut ended = false;
        for piece in &self.0 {
            match *piece {
                "(" => depth += 1,
                ")" => depth = depth.saturating_sub(1),
                ";" if depth == 0 => ended = true,
                _ if ended => return !self.0.iter().any(|piece| same(piece, "ATOMIC")),
                _ => {}
            }
        }
        false
    }

    /// Whether it talks to the client in the middle of a statement.
    pub(super) fn copies_through_client(&self) -> bool {
        let ends = |word: &str| ["STDIN", "STDOUT"].iter().any(|end| same(word, end));
        let pairs = self.0.windows(2);
        let through = |pair: &[&str]| matches!(pair, [way, end] if (same(way, "FROM") || same(way, "TO")) && ends(end));
        self.first() == "COPY" && pairs.into_iter().any(through)
    }

    /// Whether it is an `EXPLAIN` that carries out, and so changes, what it explains.
    pub(super) fn explains_by_changing(&self) -> bool {
        const CHANGES: [&str; 8] = [
            "INSERT", "UPDATE", "DELETE", "MERGE", "CREATE", "REFRESH", "EXECUTE", "DECLARE",
        ];
        if self.first() != "EXPLAIN" {
            return false;
        }
        let starts = |piece: &&str| {
            ["SELECT", "WITH", "VALUES", "TABLE"]
                .iter()
                .chain(&CHANGES)
                .any(|word| same(piece, word))
        };
        let Some(start) = self.0.iter().position(starts) else {
            return false;
        };
        let (options, statement) = self.0.split_at(start);
        let analyzes = options.iter().enumerate().any(|(n, piece)| {
            let off = ["false", "off", "0"].iter().any(|off| self.is(n + 1, off));
            (same(piece, "ANALYZE") || same(piece, "ANALYSE")) && !off
        });
        // A query may change rows on its way; `FOR UPDATE` only locks them.
        let mut changes = statement.iter().enumerate().filter(|(n, piece)| {
            let locks = *n > 0 && same(statement[n - 1], "FOR");
            let locks = locks || (*n > 1 && same(statement[n - 1], "KEY"));
            CHANGES.iter().any(|word| same(piece, word)) && !locks
        });
        let query = statement.first().is_some_and(|first| same(first, "WITH"));
        analyzes && changes.next().is_some_and(|(n, _)| n == 0 || query)
    }

    fn is(&self, n: usize, word: &str) -> bool {
        self.0.get(n).is_some_and(|piece| same(piece, word))
    }

    /// Where these words, one after the other, end.
    fn behind(&self, n: usize, words: &[&str]) -> Option<usize> {
        let all = words
            .iter()
            .enumerate()
            .all(|(i, word)| self.is(n + i, word));
        all.then_some(n + words.len())
    }

    fn without(&self, n: usize, words: &[&str]) -> usize {
        self.behind(n, words).unwrap_or(n)
    }

    /// A name from `n` on, with its schema, as it is written.
    fn name(&self, n: usize) -> Option<String> {
        let mut name = (*self.0.get(n)?).to_owned();
        let mut n = n + 1;
        while self.is(n, ".") {
            name.push('.');
            name.push_str(self.0.get(n + 1)?);
            n += 2;
        }
        Some(name)
    }

    pub(super) fn nature(&self) -> Nature {
        let concurrent = |leaves| Nature::Concurrent(leaves);
        match self.first().as_str() {
            "CALL" | "DO" => Nature::InParts,
            "CREATE" | "ALTER" | "DROP" if self.is(1, "SUBSCRIPTION") => Nature::InParts,
            "CREATE" => {
                let n = self.without(1, &["UNIQUE"]);
                let Some(n) = self.behind(n, &["INDEX", "CONCURRENTLY"]) else {
                    return Nature::Whole;
                };
                let on = (n..self.0.len()).find(|n| self.is(*n, "ON"));
                let table = on.and_then(|on| self.name(self.without(on + 1, &["ONLY"])));
                concurrent(Leaves::Indexes(table))
            }
            "DROP" => match self.behind(1, &["INDEX", "CONCURRENTLY"]) {
                Some(n) => concurrent(Leaves::Indexes(
                    self.name(self.without(n, &["IF", "EXISTS"])),
                )),
                None => Nature::Whole,
            },
            "REINDEX" => self.reindex(),
            "ALTER" => {
                let parent = self.behind(1, &["TABLE"]).and_then(|n| {
                    let n = self.without(n, &["IF", "EXISTS"]);
                    self.name(self.without(n, &["ONLY"]))
                });
                let detaches = self.0.windows(2).any(|pair| {
                    matches!(pair, [verb, what] if same(verb, "DETACH") && same(what, "PARTITION"))
                });
                let concurrently = self.0.iter().any(|piece| same(piece, "CONCURRENTLY"));
                match parent {
                    Some(parent) if detaches && concurrently => {
                        concurrent(Leaves::Partitions(parent))
                    }
                    _ => Nature::Whole,
                }
            }
            _ => Nature::Whole,
        }
    }

    fn reindex(&self) -> Nature {
        let mut n = 1;
        let mut concurrently = false;
        if self.is(n, "(") {
            while n < self.0.len() && !self.is(n, ")") {
                let off = ["false", "off", "0"].iter().any(|off| self.is(n + 1, off));
                concurrently |= self.is(n, "CONCURRENTLY") && !off;
                n += 1;
            }
            n += 1;
        }
        let one = self.is(n, "INDEX") || self.is(n, "TABLE");
        n += 1;
        if self.is(n, "CONCURRENTLY") {
            concurrently = true;
            n += 1;
        }
        match concurrently {
            true => Nature::Concurrent(Leaves::Indexes(self.name(n).filter(|_| one))),
            false => Nature::Whole,
        }
    }
}

/// Invalid indexes of a table, of its partitions and of what it stores elsewhere; of all of them
/// where `$1` is empty.
const INVALID: &str = "WITH RECURSIVE named AS (SELECT pg_catalog.to_regclass(nullif($1::text, ''))::oid AS oid),
    one AS (SELECT coalesce(x.indrelid, n.oid) AS oid FROM named n LEFT JOIN pg_catalog.pg_index x ON x.indexrelid = n.oid),
    parts AS (SELECT o.oid FROM one o
        UNION SELECT i.inhrelid FROM parts p JOIN pg_catalog.pg_inherits i ON i.inhparent = p.oid),
    tables AS (SELECT p.oid FROM parts p
        UNION SELECT t.reltoastrelid FROM pg_catalog.pg_class t JOIN parts p ON p.oid = t.oid)
    SELECT pg_catalog.format('%I.%I', n.nspname, c.relname),
        'it is invalid: it costs writes and serves no query',
        CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.conindid = c.oid)
            THEN pg_catalog.format('REINDEX INDEX CONCURRENTLY %I.%I', n.nspname, c.relname)
            ELSE pg_catalog.format('DROP INDEX CONCURRENTLY %I.%I', n.nspname, c.relname) END
    FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class c ON c.oid = x.indexrelid
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE NOT x.indisvalid AND c.relkind = 'i' AND ($1::text = '' OR x.indrelid IN (SELECT t.oid FROM tables t))
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_progress_create_index b WHERE b.index_relid = c.oid)
    ORDER BY 1";

/// Partitions whose detaching somebody has begun.
const PENDING: &str = "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname),
        'it is being detached, and belongs to its table no more than half',
        pg_catalog.format('ALTER TABLE %I.%I DETACH PARTITION %I.%I FINALIZE', pn.nspname, p.relname, n.nspname, c.relname)
    FROM pg_catalog.pg_inherits h JOIN pg_catalog.pg_class c ON c.oid = h.inhrelid
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_catalog.pg_class p ON p.oid = h.inhparent
        JOIN pg_catalog.pg_namespace pn ON pn.oid = p.relnamespace
    WHERE h.inhdetachpending AND h.inhparent = pg_catalog.to_regclass($1::text)::oid
    ORDER BY 1";

impl Leaves {
    /// Answers with what was left: object, what is wrong with it, what would help.
    pub(super) fn query(&self) -> Query {
        match self {
            Leaves::Indexes(name) => {
                let name = name.clone().unwrap_or_default();
                Query::new(INVALID, [Param::Text(name)])
            }
            Leaves::Partitions(name) => Query::new(PENDING, [Param::Text(name.clone())]),
        }
    }
}

fn same(piece: &str, word: &str) -> bool {
    piece.eq_ignore_ascii_case(word)
}

fn is_plain(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// What stands behind a comment, which may hold others.
fn behind_comment(text: &str) -> &str {
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest.starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return &text[at..];
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    ""
}

/// How long what is between quotes is, with them; one that is doubled ends nothing.
fn quoted(text: &str, quote: char) -> usize {
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c != quote {
            continue;
        }
        match chars.peek() {
            Some((_, next)) if *next == quote => drop(chars.next()),
            _ => return at + 1,
        }
    }
    text.len()
}

/// How long a string between dollars is, or a single dollar.
fn dollars(text: &str) -> usize {
    let Some(end) = text[1..].find('$') else {
        return 1;
    };
    let tag = &text[..end + 2];
    if !tag[1..=end].chars().all(is_plain) {
        return 1;
    }
    let inner = &text[tag.len()..];
    inner
        .find(tag)
        .map_or(text.len(), |end| end + 2 * tag.len())
}

#[cfg(test)]
mod tests;
