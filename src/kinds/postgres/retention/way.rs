//! How to go through a table: by blocks or along a key, and why.

use super::facts::{Index, Member};
use super::rule::{Rule, Way};
use crate::engines::postgres::Identifier;
use crate::plan::{KeyColumn, Path, Walk};

/// A page read out of order costs as much as so many in order; the server's default.
const RANDOM: f64 = 4.0;
/// Bytes of a page; the few servers built with another size only estimate worse.
const PAGE: f64 = 8192.0;

/// Chooses the path, and tells why.
///
/// # Errors
/// A text where the table cannot be gone through.
pub(super) fn choose(
    member: &Member,
    rule: &Rule,
    victims: Option<f64>,
) -> Result<(Path, String), String> {
    let by_age = member.indexes.iter().find(|index| {
        rule.column.is_some() && index.columns.first().map(|c| &c.name) == rule.column.as_ref()
    });
    let primary = member
        .indexes
        .iter()
        .find(|index| index.primary && index.columns.iter().all(|c| c.not_null));
    match rule.walk {
        Way::Blocks if !member.heap => {
            return Err("is no heap table, so that its blocks cannot be read by ranges".to_owned());
        }
        Way::Blocks => {
            return Ok((
                blocks(member),
                "by ranges of blocks, as asked for".to_owned(),
            ));
        }
        Way::Key => {
            let index = by_age
                .or(primary)
                .ok_or("has neither an index on the age nor a primary key to walk along")?;
            return Ok((key(index), format!("along {}, as asked for", index.name)));
        }
        Way::Auto if !member.heap => {
            let index = by_age.or(primary).ok_or(
                "is no heap table, and has neither an index on the age nor a primary key to walk along",
            )?;
            let why = format!("along {}: it is no heap table", index.name);
            return Ok((key(index), why));
        }
        Way::Auto => {}
    }
    let pages = (member.bytes as f64 / PAGE).ceil().max(member.pages);
    let Some(index) = by_age else {
        return Ok((
            blocks(member),
            format!(
                "by ranges of blocks: no index leads to the rows, all {} pages are read once",
                count(pages)
            ),
        ));
    };
    let (Some(victims), true) = (victims, member.rows >= 0.0) else {
        return Ok((
            blocks(member),
            "by ranges of blocks: there are no statistics to tell how many rows will go".to_owned(),
        ));
    };
    let density = (member.rows / pages.max(1.0)).max(1.0);
    let correlation = rule
        .column
        .as_ref()
        .and_then(|column| member.statistics.get(column))
        .map_or(0.0, |s| s.correlation);
    let together = correlation * correlation;
    // As the planner does: between rows side by side and rows anywhere.
    let cost = together * (victims / density) + (1.0 - together) * RANDOM * victims;
    let spread = if together >= 0.5 {
        "close together"
    } else {
        "spread over the table"
    };
    let facts = format!(
        "about {} of {} rows, {spread} (correlation {correlation:.2})",
        count(victims),
        count(member.rows)
    );
    Ok(if cost < pages {
        let why = format!(
            "along {}: {facts}; that costs about {} page reads, all of the table {}",
            index.name,
            count(cost.max(1.0)),
            count(pages)
        );
        (key(index), why)
    } else {
        let why = format!(
            "by ranges of blocks: {facts}; that costs {} page reads, along {} about {}",
            count(pages),
            index.name,
            count(cost)
        );
        (blocks(member), why)
    })
}

/// By ranges of blocks.
pub(in crate::kinds::postgres) fn blocks(member: &Member) -> Path {
    Path::Blocks {
        extent: Walk::extent(member.oid),
    }
}

/// The index's leading columns. Those behind the first only tell rows of the
/// same age apart, and only where they are never null.
fn key(index: &Index) -> Path {
    let tail = index.columns.iter().skip(1).take_while(|c| c.not_null);
    let columns = index.columns.iter().take(1).chain(tail);
    Path::Key(
        columns
            .map(|c| KeyColumn {
                name: Identifier::new(c.name.as_str()).to_string(),
                type_name: c.type_name.clone(),
            })
            .collect(),
    )
}

fn count(n: f64) -> String {
    super::super::common::rows(n)
}
