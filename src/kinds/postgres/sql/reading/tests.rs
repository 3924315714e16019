use super::*;

#[test]
fn what_is_vacuumed_without_a_name_is_all() {
    for (sql, all) in [
        ("VACUUM", true),
        ("analyze;", true),
        ("VACUUM (ANALYZE, PARALLEL 2)", true),
        ("vacuum full freeze verbose analyze", true),
        ("ANALYZE t", false),
        ("VACUUM (ANALYZE) s.t (a)", false),
        ("SELECT 1", false),
    ] {
        assert_eq!(Pieces::of(sql).means_all_tables(), all, "{sql}");
    }
}

#[test]
fn what_may_not_be_repeated_is_told_by_its_words() {
    let indexes = |name: &str| {
        let name = Some(name.to_owned()).filter(|name| !name.is_empty());
        Nature::Concurrent(Leaves::Indexes(name))
    };
    for (sql, nature) in [
        ("CALL s.p()", Nature::InParts),
        (
            "/* a /* b */ c */ do -- x\n $$ BEGIN END $$",
            Nature::InParts,
        ),
        ("ALTER SUBSCRIPTION s REFRESH PUBLICATION", Nature::InParts),
        (
            "create unique index concurrently if not exists i on only s.\"T x\" (a)",
            indexes("s.\"T x\""),
        ),
        ("CREATE INDEX CONCURRENTLY ON t (a)", indexes("t")),
        ("CREATE INDEX i ON t (a)", Nature::Whole),
        ("DROP INDEX CONCURRENTLY IF EXISTS s.i", indexes("s.i")),
        ("REINDEX INDEX CONCURRENTLY s.i", indexes("s.i")),
        ("REINDEX (VERBOSE, CONCURRENTLY) TABLE s.t", indexes("s.t")),
        ("REINDEX (CONCURRENTLY off) TABLE s.t", Nature::Whole),
        ("REINDEX SCHEMA CONCURRENTLY s", indexes("")),
        ("REINDEX TABLE s.t", Nature::Whole),
        (
            "ALTER TABLE IF EXISTS s.p DETACH PARTITION s.q CONCURRENTLY",
            Nature::Concurrent(Leaves::Partitions("s.p".to_owned())),
        ),
        ("ALTER TABLE s.p DETACH PARTITION s.q", Nature::Whole),
        ("SELECT 'CALL CONCURRENTLY'", Nature::Whole),
        ("VACUUM s.t", Nature::Whole),
    ] {
        assert_eq!(Pieces::of(sql).nature(), nature, "{sql}");
    }
}

#[test]
fn who_explains_by_doing_it_is_seen() {
    for (sql, changes) in [
        ("EXPLAIN ANALYZE DELETE FROM s.t", true),
        ("explain (analyze, buffers) update s.t set a = 1", true),
        ("EXPLAIN (BUFFERS, ANALYZE true) MERGE INTO s.t", true),
        (
            "EXPLAIN ANALYZE VERBOSE WITH x AS (DELETE FROM s.t RETURNING 1) SELECT 1",
            true,
        ),
        ("EXPLAIN ANALYZE CREATE TABLE s.u AS SELECT 1", true),
        ("EXPLAIN DELETE FROM s.t", false),
        ("EXPLAIN (ANALYZE off) DELETE FROM s.t", false),
        ("EXPLAIN ANALYZE SELECT 'DELETE'", false),
        ("EXPLAIN ANALYZE SELECT * FROM s.t FOR NO KEY UPDATE", false),
        (
            "EXPLAIN ANALYZE WITH x AS (SELECT 1 FROM s.t FOR UPDATE) SELECT 1",
            false,
        ),
        ("EXPLAIN ANALYZE SELECT 1 AS \"delete\"", false),
        ("ANALYZE s.t", false),
        ("DELETE FROM s.t", false),
    ] {
        assert_eq!(Pieces::of(sql).explains_by_changing(), changes, "{sql}");
    }
}

#[test]
fn what_is_no_statement_or_talks_to_the_client_is_seen() {
    for sql in ["", "-- x", "/* x */ ;", " \n"] {
        assert_eq!(Pieces::of(sql).first(), "", "{sql}");
    }
    for (sql, through) in [
        ("COPY s.t FROM STDIN", true),
        ("copy (SELECT 1) to stdout (FORMAT csv)", true),
        ("COPY s.t TO '/srv/stdout'", false),
        ("COPY s.t FROM PROGRAM 'to stdout'", false),
        ("SELECT 1 -- COPY x FROM STDIN", false),
    ] {
        assert_eq!(Pieces::of(sql).copies_through_client(), through, "{sql}");
    }
}
