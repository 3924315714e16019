//! Which locks statements take, as people have to know it.

const REBUILD: &str = "SHARE UPDATE EXCLUSIVE on the table: reads and writes go on; other maintenance and changes of the table wait. The new index takes the place of the old one under a brief lock on the index alone";
const MAINTAIN: &str = "SHARE UPDATE EXCLUSIVE on the table: reads and writes go on; other maintenance and changes of the table wait";
const ROWS: &str = "ROW EXCLUSIVE on the table, and each row until its batch is committed: nobody waits who does not change the same rows";
const READS: &str = "ACCESS SHARE: nobody waits, except who changes the table itself";
const ALL: &str = "ACCESS EXCLUSIVE: nobody else reads or writes it meanwhile; it is waited for no longer than `limits.lock_timeout`";

/// By how a statement begins; the longer beginnings first.
const BY_BEGINNING: &[(&str, &str)] = &[
    ("REINDEX", REBUILD),
    ("VACUUM (FULL", ALL),
    ("VACUUM", MAINTAIN),
    ("ANALYZE", MAINTAIN),
    ("CREATE INDEX CONCURRENTLY", MAINTAIN),
    ("DROP INDEX CONCURRENTLY", MAINTAIN),
    ("CREATE STATISTICS", MAINTAIN),
    (
        "REFRESH MATERIALIZED VIEW CONCURRENTLY",
        "EXCLUSIVE on the view: it is read meanwhile, and not refreshed by others",
    ),
    ("REFRESH", ALL),
    ("DELETE", ROWS),
    ("UPDATE", ROWS),
    ("INSERT", ROWS),
    ("WITH", ROWS),
    ("DROP", ALL),
    ("TRUNCATE", ALL),
    ("LOCK", "as the statement says"),
    ("SELECT", READS),
    ("CREATE TABLE", "the new table, which nobody else sees yet"),
];

/// The locks of statements as they are recorded, separated by `; `; each named once.
pub fn locks(statements: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for statement in statements.split(['\n', ';']) {
        let words = statement.trim_start().to_ascii_uppercase();
        let lock = match words.as_str() {
            "" => continue,
            text if text.starts_with("ALTER TABLE") && text.contains("DETACH PARTITION") => {
                match text.contains("CONCURRENTLY") || text.contains("FINALIZE") {
                    true => {
                        "SHARE UPDATE EXCLUSIVE on the parent: reads and writes go on; ACCESS EXCLUSIVE on the partition at the end"
                    }
                    false => ALL,
                }
            }
            text if text.starts_with("ALTER TABLE") && text.contains("ATTACH PARTITION") => {
                "SHARE UPDATE EXCLUSIVE on the parent, ACCESS EXCLUSIVE on the partition and on a default partition"
            }
            text if text.starts_with("ALTER TABLE") && text.contains("VALIDATE CONSTRAINT") => {
                MAINTAIN
            }
            text if text.starts_with("ALTER TABLE") => ALL,
            text => {
                let known = BY_BEGINNING
                    .iter()
                    .find(|(begin, _)| text.starts_with(begin));
                match known {
                    Some((_, lock)) => lock,
                    None => continue,
                }
            }
        };
        if !found.iter().any(|one| one == lock) {
            found.push(lock.to_owned());
        }
    }
    if found.is_empty() {
        found.push("not known for such a statement".to_owned());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_statements_lock() {
        for (sql, word) in [
            (
                "REINDEX INDEX CONCURRENTLY public.i",
                "SHARE UPDATE EXCLUSIVE",
            ),
            ("VACUUM (SKIP_LOCKED) public.t", "SHARE UPDATE EXCLUSIVE"),
            ("DELETE FROM ONLY public.t AS t WHERE true", "ROW EXCLUSIVE"),
            ("REFRESH MATERIALIZED VIEW public.v", "ACCESS EXCLUSIVE"),
            (
                "REFRESH MATERIALIZED VIEW CONCURRENTLY public.v",
                "EXCLUSIVE on the view",
            ),
            (
                "ALTER TABLE p DETACH PARTITION q CONCURRENTLY",
                "on the parent",
            ),
            ("DROP TABLE public.t", "ACCESS EXCLUSIVE"),
            ("NOTIFY x", "not known"),
        ] {
            let found = locks(sql);
            assert!(found[0].contains(word), "{sql}: {found:?}");
        }
        assert_eq!(
            locks("REINDEX INDEX CONCURRENTLY i; ANALYZE t; ANALYZE u").len(),
            2
        );
    }
}
