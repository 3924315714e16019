//! Conditions that take the row of the table as one value. Rows are looked at where they are stored, in a partition
//! or a member of an inheritance, under the name of the table; there the row as a whole has the columns of that
//! member, in the order of that member. It would be another value than the rule means.

use super::facts::Table;
use super::rule::Rule;
use crate::engines::EngineError;
use crate::engines::postgres::{Session, each};

/// What the rows of each table are made of, as far as a row as a whole shows it.
const LAYOUTS: &str = "SELECT a.attrelid AS oid,
        pg_catalog.array_agg(pg_catalog.concat_ws(' ', pg_catalog.quote_ident(a.attname), a.atttypid, a.atttypmod) ORDER BY a.attnum) AS layout
    FROM pg_catalog.pg_attribute a WHERE a.attrelid = ANY ($1::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
    GROUP BY a.attrelid";

/// Why a rule is not followed whose conditions take a row as a whole, where that is another row in a member of
/// the table.
///
/// # Errors
/// When the server reports one, or the connection is gone.
pub(super) async fn is_another(
    db: &Session,
    rule: &Rule,
    table: &Table,
) -> Result<Option<String>, EngineError> {
    if !is_taken(rule, table) {
        return Ok(None);
    }
    let doing = "looking what the rows of partitions are made of";
    let rows = db.query(doing, LAYOUTS, &[&table.relations()]).await?;
    let layouts: Vec<(u32, Vec<String>)> =
        each(&rows, |row| Ok((row.named("oid")?, row.named("layout")?)))?;
    let of = |oid: u32| layouts.iter().find(|(of, _)| *of == oid).map(|(_, it)| it);
    let own = of(table.oid);
    let other = table.members.iter().find(|m| of(m.oid) != own);
    let alias = rule.alias();
    Ok(other.map(|member| {
        format!(
            "its condition takes a row of {alias} as a whole, and rows of {} have other columns than those of {}, or in another order: write `{alias}::{}` for the row",
            member.name, table.name, table.name
        )
    }))
}

/// Whether a condition of the rule takes a row of its table as a value.
fn is_taken(rule: &Rule, table: &Table) -> bool {
    let alias = rule.alias();
    // A column of that name is what the name then means.
    !table.columns.contains_key(alias.raw())
        && rule.texts().any(|text| takes_whole_row(text, alias.raw()))
}

/// A piece of a condition.
#[derive(Debug, PartialEq)]
enum Token {
    /// A name or a word: unquoted ones in lower case.
    Name(String),
    /// `::`
    Cast,
    /// Any other sign.
    Sign(char),
    /// A literal.
    Value,
}

/// Whether `text` has `alias` as a value, and not before a column, as a table of a subquery, or cast to the
/// table's own row type.
fn takes_whole_row(text: &str, alias: &str) -> bool {
    let tokens = tokens(text);
    let name = |at: Option<&Token>| match at {
        Some(Token::Name(name)) => Some(name.clone()),
        _ => None,
    };
    let is_alias = |at: usize| name(tokens.get(at)).is_some_and(|name| name == alias);
    (0..tokens.len()).filter(|at| is_alias(*at)).any(|at| {
        let before = at.checked_sub(1).and_then(|before| tokens.get(before));
        let part_of_name = matches!(before, Some(Token::Sign('.') | Token::Cast));
        let is_table = name(before)
            .is_some_and(|word| matches!(&*word, "from" | "join" | "only" | "as" | "table"));
        let calls = tokens.get(at + 1) == Some(&Token::Sign('('));
        let of_column = tokens.get(at + 1) == Some(&Token::Sign('.'))
            && tokens.get(at + 2) != Some(&Token::Sign('*'));
        !(part_of_name || is_table || calls || of_column || is_cast(&tokens, at + 1, alias))
    })
}

/// Whether what stands from here on casts a value to the row type of `alias`.
fn is_cast(tokens: &[Token], from: usize, alias: &str) -> bool {
    let mut rest = tokens.get(from..).unwrap_or_default().iter();
    let mut next = rest.next();
    while next == Some(&Token::Sign(')')) {
        next = rest.next();
    }
    if next != Some(&Token::Cast) {
        return false;
    }
    loop {
        let Some(Token::Name(name)) = rest.next() else {
            return false;
        };
        match rest.next() {
            Some(Token::Sign('.')) => {}
            // An array of rows is none.
            Some(Token::Sign('[')) => return false,
            _ => return name == alias,
        }
    }
}

fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let within = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$');
        let mut length = c.len_utf8();
        match c {
            '\'' => {
                length = quoted(rest, '\'');
                tokens.push(Token::Value);
            }
            '"' => {
                length = quoted(rest, '"');
                let name = rest.get(1..length.saturating_sub(1)).unwrap_or_default();
                tokens.push(Token::Name(name.replace("\"\"", "\"")));
            }
            '$' => {
                length = dollars(rest).unwrap_or(length);
                tokens.push(Token::Value);
            }
            c if c.is_alphabetic() || c == '_' => {
                length = rest.find(|c| !within(c)).unwrap_or(rest.len());
                let word = rest.get(..length).unwrap_or_default().to_lowercase();
                // The letter before a literal is a part of it.
                let of_literal = rest
                    .get(length..)
                    .is_some_and(|rest| rest.starts_with('\''))
                    && matches!(&*word, "e" | "b" | "x" | "n");
                if !of_literal {
                    tokens.push(Token::Name(word));
                }
            }
            c if c.is_numeric() => {
                length = rest.find(|c| !within(c)).unwrap_or(rest.len());
                tokens.push(Token::Value);
            }
            ':' if rest.starts_with("::") => {
                length = 2;
                tokens.push(Token::Cast);
            }
            c if c.is_whitespace() => {}
            c => tokens.push(Token::Sign(c)),
        }
        rest = rest.get(length..).unwrap_or_default();
    }
    tokens
}

/// How long a text in quotes is; a quote that stands twice does not end it.
fn quoted(text: &str, quote: char) -> usize {
    let mut at = 1;
    while let Some(end) = text.get(at..).and_then(|rest| rest.find(quote)) {
        at += end + 1;
        match text.get(at..).is_some_and(|rest| rest.starts_with(quote)) {
            true => at += 1,
            false => return at,
        }
    }
    text.len()
}

/// How long a text in dollars is.
fn dollars(text: &str) -> Option<usize> {
    let end = text.get(1..)?.find('$')? + 2;
    let tag = text.get(..end)?;
    let body = text.get(end..)?;
    Some(end + body.find(tag)? + tag.len())
}

#[cfg(test)]
mod tests {
    use super::takes_whole_row;

    #[test]
    fn a_row_that_is_taken_as_a_whole_is_seen() {
        for text in [
            "q IS NOT NULL",
            "q::text LIKE '(1,%'",
            "(q)::text = 'x'",
            "pg_catalog.md5(Q::text) IN (SELECT h FROM public.hold)",
            "q = ROW(1, at, 2)",
            "public.keep(\"q\")",
            "(q.*) IS NULL",
            "EXISTS (SELECT FROM holds h WHERE h.row = q)",
            "q::public.q[] IS NULL",
            "row_to_json(q)->>'a' = '1'",
        ] {
            assert!(takes_whole_row(text, "q"), "{text}");
        }
        assert!(takes_whole_row("\"odd \"\"Q\" IS NULL", "odd \"Q"));
    }

    #[test]
    fn other_uses_of_the_name_are_none() {
        for text in [
            "q.a = 1",
            "public.q.a = 1",
            "a = 'q'",
            "a = e'it''s q'",
            "a = $$q$$ OR a = $x$ q $x$",
            "at < (SELECT max(at) FROM q)",
            "at < (SELECT max(at) FROM public.q JOIN ONLY q AS q ON true)",
            "q::public.q IS NOT NULL",
            "(q)::q IS NOT NULL",
            "public.keep(q::public.q)",
            "q(1) = 2",
            "a = 1::q",
            "\"Q\" IS NULL",
            "queue = 1",
        ] {
            assert!(!takes_whole_row(text, "q"), "{text}");
        }
    }
}
