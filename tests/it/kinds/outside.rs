//! Partitions that are out of their table, or half out: today's rule decides whether they go on
//! their way; where they do not, that is told until somebody has settled it.

use serde_json::{Value, json};

use crate::support::servers::{TestDatabase, fresh_database};
use crate::support::workspace::Workspace;

const BOUNDS: &str = "FOR VALUES FROM ('2020-01-01 00:00:00+00') TO ('2021-01-01 00:00:00+00')";

/// Partitions of 2019, 2020 and 2021 with 100 old rows each, and one for today with a row.
pub(super) async fn years(db: &TestDatabase) {
    db.execute("CREATE TABLE ev (id int, at timestamptz NOT NULL, note text) PARTITION BY RANGE (at);
        CREATE TABLE ev_2019 PARTITION OF ev FOR VALUES FROM ('2019-01-01 00:00+00') TO ('2020-01-01 00:00+00');
        CREATE TABLE ev_2020 PARTITION OF ev FOR VALUES FROM ('2020-01-01 00:00+00') TO ('2021-01-01 00:00+00');
        CREATE TABLE ev_2021 PARTITION OF ev FOR VALUES FROM ('2021-01-01 00:00+00') TO ('2022-01-01 00:00+00');
        CREATE TABLE ev_now PARTITION OF ev FOR VALUES FROM ('2022-01-01 00:00+00') TO ('2100-01-01 00:00+00');
        INSERT INTO ev SELECT n, make_timestamptz(y, 6, 1, 0, 0, 0, 'UTC'), 'x' FROM generate_series(2019, 2021) y, generate_series(1, 100) n;
        INSERT INTO ev VALUES (1000, now(), 'new'); COMMENT ON TABLE ev_2020 IS 'of 2020'").await;
}

pub(super) fn options(kind: &str, folder: &std::path::Path, more: &Value) -> String {
    let rule = json!({ "table": "ev", "column": "at", "older_than": "4y" });
    let mut all = match kind {
        "cleanup" => json!({ "rules": [rule] }),
        "archive" => {
            let mut rule = rule;
            rule["destination"] = json!({ "files": format!("file://{}", folder.display()) });
            rule
        }
        _ => {
            json!({ "tables": ["ev"], "interval": "year", "ahead": 0, "keep": "4y", "grace": "0s", "time_zone": "UTC" })
        }
    };
    let of_rule = [
        "older_than",
        "where",
        "keep",
        "column",
        "max_rows",
        "max_share",
    ];
    for (key, value) in more.as_object().unwrap() {
        let target = match (kind, of_rule.contains(&key.as_str())) {
            ("cleanup", true) => &mut all["rules"][0],
            _ => &mut all,
        };
        target[key] = value.clone();
    }
    let nulls = |object: &mut Value| {
        let object = object.as_object_mut().unwrap();
        object.retain(|_, value| !value.is_null());
    };
    if kind == "cleanup" {
        nulls(&mut all["rules"][0]);
    }
    nulls(&mut all);
    all.to_string()
}

fn task(workspace: Workspace, kind: &str, options: &str) -> Workspace {
    let yaml = format!(
        "kind: {kind}\ntarget: app\noptions: {options}\nlimits: {{ jobs: 1, lock_timeout: 300ms, lock_retries: 1, transaction_wait: 1s }}\n"
    );
    workspace.task(kind, &yaml)
}

pub(super) fn run(workspace: &Workspace, kind: &str, exit: i32) -> Value {
    let output = workspace.run(["run", kind, "--now", "--output", "json"]);
    output.expect(exit).json()["runs"][0].clone()
}

fn step<'a>(run: &'a Value, object: &str) -> &'a Value {
    let steps = run["steps"].as_array().unwrap();
    let mut found = steps.iter().filter(|s| s["object"] == object);
    found.next().unwrap_or_else(|| panic!("{object}: {run:#}"))
}

/// The only finding of this code.
pub(super) fn told<'a>(run: &'a Value, code: &str) -> &'a Value {
    let findings = run["findings"].as_array().unwrap().iter();
    let found: Vec<&Value> = findings.filter(|f| f["code"] == code).collect();
    assert_eq!(found.len(), 1, "{code}: {run:#}");
    found[0]
}

pub(super) async fn rows(db: &TestDatabase, table: &str) -> i64 {
    db.number(&format!("SELECT count(*) FROM {table}")).await
}

pub(super) async fn exists(db: &TestDatabase, table: &str) -> bool {
    let sql = format!("SELECT count(*) FROM pg_class WHERE relname = '{table}'");
    db.number(&sql).await == 1
}

async fn comment(db: &TestDatabase, table: &str) -> String {
    let sql = format!("SELECT coalesce(obj_description('{table}'::regclass, 'pg_class'), 'none')");
    db.strings(&sql).await.remove(0)
}

/// As a run leaves it that is killed after it has marked, and before it has detached.
pub(super) async fn mark(db: &TestDatabase, workspace: &Workspace, kind: &str) {
    let mark = match kind {
        "partitions" => "maint: retired partition of public.ev since 2021-01-01T00:00:00+00:00",
        "cleanup" => "maint: expired partition of public.ev",
        _ => "maint: to be archived, once a partition of public.ev",
    };
    db.execute(&format!(
        "COMMENT ON TABLE ev_2020 IS E'{mark}\\nas public.ev_2020\\nof 2020'"
    ))
    .await;
    workspace.knows_mark(kind, db, "public.ev_2020").await;
    workspace
        .knows_part(kind, db, "public.ev_2020", "public.ev")
        .await;
    workspace
        .knows_bounds(kind, db, "public.ev_2020", BOUNDS)
        .await;
}

/// Breaks a concurrent detachment of ev_2020 off.
async fn half_out(db: &TestDatabase) {
    half_out_of(db, "ev", "ev_2020").await;
    assert_eq!(rows(db, "ev").await, 201);
}

/// The same for any partition.
pub(super) async fn half_out_of(db: &TestDatabase, root: &str, part: &str) {
    let reader = db.connect().await;
    reader
        .batch_execute("BEGIN; SELECT count(*) FROM ev")
        .await
        .unwrap();
    let other = db.connect().await;
    let limit = "SET statement_timeout = '300ms'";
    other.batch_execute(limit).await.unwrap();
    let detach = format!("ALTER TABLE {root} DETACH PARTITION {part} CONCURRENTLY");
    other.batch_execute(&detach).await.unwrap_err();
    reader.batch_execute("ROLLBACK").await.unwrap();
    let pending = "SELECT count(*) FROM pg_inherits WHERE inhdetachpending";
    assert_eq!(db.number(pending).await, 1);
}

/// What today's options say of what an earlier run has detached: none of these would have it go.
fn kept(kind: &str) -> Vec<(&'static str, Value)> {
    let hold = "CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN CASE WHEN OLD.id % 2 = 1 THEN OLD END; END';
        CREATE TRIGGER hold BEFORE DELETE ON ev FOR EACH ROW EXECUTE FUNCTION hold()";
    let mut all = match kind {
        "partitions" => vec![
            ("", json!({ "keep": "20y" })),
            ("", json!({ "keep": null })),
            ("", json!({ "expired": "archive" })),
            ("", json!({ "keep": "20y", "grace": "36500d" })),
        ],
        _ => vec![
            ("", json!({ "older_than": "20y" })),
            ("", json!({ "keep": ["note = 'x'"] })),
            ("", json!({ "where": "note = 'y'" })),
            (
                "",
                json!({ "older_than": null, "column": null, "where": "note = 'y'" }),
            ),
            ("", json!({ "drop_partitions": false })),
            (hold, json!({})),
        ],
    };
    if kind == "cleanup" {
        all.push(("", json!({ "max_rows": 3 })));
        all.push(("", json!({ "max_share": "1%" })));
    }
    all
}

for_versions! {
    [pg16 = 16]
    /// Detached by an earlier run, and not meant by today's options: it stays with all its rows,
    /// is told each time, and can be brought back by what the finding suggests.
    async fn what_was_detached_goes_only_as_it_would_today(major: u32) {
        for kind in ["cleanup", "archive", "partitions"] {
            for (before, more) in kept(kind) {
                let db = fresh_database(major).await;
                years(&db).await;
                db.execute(&format!("DROP TABLE ev_2019, ev_2021; {before}")).await;
                let folder = tempfile::tempdir().unwrap();
                let workspace = task(Workspace::for_target(&db.url), kind, &options(kind, folder.path(), &more));
                mark(&db, &workspace, kind).await;
                db.execute("ALTER TABLE ev DETACH PARTITION ev_2020").await;
                let at_the_step = more.get("max_rows").is_some();
                for _ in 0..2 {
                    let run = run(&workspace, kind, i32::from(!at_the_step));
                    let told = told(&run, "partitions.outside");
                    assert_eq!((told["object"].as_str(), told["severity"].as_str()), (Some("public.ev_2020"), Some("critical")), "{kind} {more}: {run:#}");
                    assert_eq!(told["suggestion"], format!("ALTER TABLE public.ev ATTACH PARTITION public.ev_2020 {BOUNDS}"), "{kind} {more}");
                    assert_eq!(rows(&db, "ev_2020").await, 100, "{kind} {more}: {run:#}");
                    assert_eq!(rows(&db, "ev").await, 1);
                }
                let again = run(&workspace, kind, i32::from(!at_the_step));
                db.execute(told(&again, "partitions.outside")["suggestion"].as_str().unwrap()).await;
                assert_eq!(rows(&db, "ev").await, 101);
                if more.get("older_than").is_some() || kind == "partitions" {
                    run(&workspace, kind, 0);
                    assert_eq!((rows(&db, "ev").await, comment(&db, "ev_2020").await.as_str()), (101, "of 2020"), "{kind} {more}");
                    assert_eq!(run(&workspace, kind, 0)["steps"], json!([]), "{kind} {more}");
                }
            }
        }
    }
}

for_oldest_and_newest! {
    /// Begun to be detached by an earlier run, and kept by today's rule: it keeps its mark, is
    /// told, and what the finding suggests has it back.
    async fn what_is_half_out_and_kept_is_told(major: u32) {
        for kind in ["cleanup", "archive"] {
            let db = fresh_database(major).await;
            years(&db).await;
            let folder = tempfile::tempdir().unwrap();
            let kept = options(kind, folder.path(), &json!({ "older_than": "20y" }));
            let workspace = task(Workspace::for_target(&db.url), kind, &kept);
            mark(&db, &workspace, kind).await;
            half_out(&db).await;
            for _ in 0..2 {
                let run = run(&workspace, kind, 1);
                assert_eq!(run["steps"], json!([]), "{kind}: {run:#}");
                let told = told(&run, "partitions.outside");
                assert_eq!(told["object"], "public.ev_2020", "{run:#}");
            }
            assert!(comment(&db, "ev_2020").await.starts_with("maint: "));
            let last = run(&workspace, kind, 1);
            let suggestion = told(&last, "partitions.outside")["suggestion"].as_str().unwrap();
            for statement in suggestion.split("; ") {
                db.execute(statement).await;
            }
            assert_eq!(rows(&db, "ev").await, 301);
            let settled = run(&workspace, kind, 0);
            assert_eq!(step(&settled, "public.ev_2020")["action"], "unmark_partition", "{settled:#}");
            assert_eq!(comment(&db, "ev_2020").await, "of 2020");
            assert_eq!(run(&workspace, kind, 0)["steps"], json!([]));
        }
    }
}

for_oldest_and_newest! {
    /// The same for partitions, which finishes it, as nothing can take its place before.
    async fn what_is_half_out_is_finished_and_told(major: u32) {
        let db = fresh_database(major).await;
        years(&db).await;
        let kind = "partitions";
        let kept = options(kind, std::path::Path::new(""), &json!({ "keep": "20y", "grace": "7d" }));
        let workspace = task(Workspace::for_target(&db.url), kind, &kept);
        mark(&db, &workspace, kind).await;
        half_out(&db).await;
        let first = run(&workspace, kind, 1);
        assert_eq!(step(&first, "public.ev_2020")["action"], "finish_detach", "{first:#}");
        for run in [first, run(&workspace, kind, 1)] {
            let told = told(&run, "partitions.outside");
            assert_eq!(told["suggestion"], format!("ALTER TABLE public.ev ATTACH PARTITION public.ev_2020 {BOUNDS}"), "{run:#}");
        }
        db.execute(&format!("ALTER TABLE public.ev ATTACH PARTITION public.ev_2020 {BOUNDS}")).await;
        assert_eq!(rows(&db, "ev").await, 301);
        run(&workspace, kind, 0);
        assert_eq!(comment(&db, "ev_2020").await, "of 2020");
        assert_eq!(run(&workspace, kind, 0)["steps"], json!([]));
    }
}

for_versions! {
    [pg16 = 16]
    /// Begun to be detached by somebody else: it is theirs, the others wait, and the finding says
    /// what ends it.
    async fn what_somebody_else_began_is_told(major: u32) {
        for kind in ["cleanup", "archive"] {
            let db = fresh_database(major).await;
            years(&db).await;
            let folder = tempfile::tempdir().unwrap();
            let workspace = task(Workspace::for_target(&db.url), kind, &options(kind, folder.path(), &json!({})));
            half_out(&db).await;
            for _ in 0..2 {
                let run = run(&workspace, kind, 1);
                assert_eq!(run["steps"], json!([]), "{kind}: {run:#}");
                let told = told(&run, "partitions.pending");
                assert_eq!(told["object"], "public.ev_2020", "{run:#}");
                assert_eq!(told["suggestion"], "ALTER TABLE public.ev DETACH PARTITION public.ev_2020 FINALIZE", "{run:#}");
            }
            assert_eq!((rows(&db, "ev").await, rows(&db, "ev_2020").await), (201, 100));
            db.execute("ALTER TABLE public.ev DETACH PARTITION public.ev_2020 FINALIZE").await;
            run(&workspace, kind, 0);
            assert_eq!((rows(&db, "ev").await, rows(&db, "ev_2020").await), (1, 100));
            assert!(!exists(&db, "ev_2019").await && !exists(&db, "ev_2021").await);
            assert_eq!(run(&workspace, kind, 0)["steps"], json!([]));
        }
    }
}

for_versions! {
    [pg14 = 14]
    /// A partition that has partitions itself is named once, and not what is below it; where it is
    /// one of those that is half out, only that one and its siblings wait.
    async fn what_is_below_a_half_detached_partition_is_not_taken_for_it(major: u32) {
        for kind in ["cleanup", "archive"] {
            for (of, part) in [("ev", "ev_2020"), ("ev_2020", "ev_2020_a")] {
                let db = fresh_database(major).await;
                years(&db).await;
                db.execute(&format!("DROP TABLE ev_2020; CREATE TABLE ev_2020 PARTITION OF ev {BOUNDS} PARTITION BY RANGE (id);
                    CREATE TABLE ev_2020_a PARTITION OF ev_2020 FOR VALUES FROM (1) TO (51); CREATE TABLE ev_2020_b PARTITION OF ev_2020 FOR VALUES FROM (51) TO (101);
                    INSERT INTO ev_2020 SELECT g, '2020-06-01 00:00+00', 'x' FROM generate_series(1, 100) g")).await;
                let folder = tempfile::tempdir().unwrap();
                let workspace = task(Workspace::for_target(&db.url), kind, &options(kind, folder.path(), &json!({})));
                half_out_of(&db, of, part).await;
                let run = run(&workspace, kind, 1);
                let all = run["findings"].as_array().unwrap().iter();
                let pending: Vec<&Value> = all.filter(|f| f["code"] == "partitions.pending").collect();
                assert_eq!(pending.len(), 1, "{kind} {part}: {run:#}");
                assert_eq!(pending[0]["object"], format!("public.{part}"), "{run:#}");
                let finalize = format!("ALTER TABLE public.{of} DETACH PARTITION public.{part} FINALIZE");
                assert_eq!(pending[0]["suggestion"], finalize, "{run:#}");
                assert_eq!(rows(&db, "ev_2020_a").await, 50, "{run:#}");
                // Partitions of the table can leave beside what is half out further below.
                let free = of != "ev";
                assert_eq!(exists(&db, "ev_2019").await, !free, "{kind} {part}: {run:#}");
                assert_eq!(rows(&db, "ev_2020_b").await, if free { 0 } else { 50 }, "{kind} {part}: {run:#}");
                db.execute(&finalize).await;
                workspace.run(["run", kind, "--now"]).expect(0);
                assert_eq!(rows(&db, "ev").await, 1);
                assert_eq!(rows(&db, part).await, if free { 50 } else { 100 }, "{kind} {part}");
            }
        }
    }
}

for_versions! {
    [pg16 = 16]
    /// Further below than the partitions that come and go: it is told by each run until somebody finishes it, at any depth.
    async fn what_is_half_out_further_below_is_told(major: u32) {
        for (of, part) in [("ev_2021", "ev_2021_a"), ("ev_2021_b", "ev_2021_b_a")] {
            let db = fresh_database(major).await;
            years(&db).await;
            db.execute("DROP TABLE ev_2019, ev_2020, ev_2021; CREATE TABLE ev_2021 PARTITION OF ev FOR VALUES FROM ('2021-01-01 00:00+00') TO ('2022-01-01 00:00+00') PARTITION BY RANGE (id);
                CREATE TABLE ev_2021_a PARTITION OF ev_2021 FOR VALUES FROM (1) TO (51); CREATE TABLE ev_2021_b PARTITION OF ev_2021 FOR VALUES FROM (51) TO (101) PARTITION BY RANGE (id);
                CREATE TABLE ev_2021_b_a PARTITION OF ev_2021_b FOR VALUES FROM (51) TO (81); CREATE TABLE ev_2021_b_b PARTITION OF ev_2021_b FOR VALUES FROM (81) TO (101);
                INSERT INTO ev_2021 SELECT g, '2021-06-01 00:00+00', 'x' FROM generate_series(1, 100) g").await;
            let folder = tempfile::tempdir().unwrap();
            let workspace = task(Workspace::for_target(&db.url), "partitions", &options("partitions", folder.path(), &json!({ "keep": "20y" })));
            assert_eq!(run(&workspace, "partitions", 0)["findings"], json!([]));
            half_out_of(&db, of, part).await;
            let there = rows(&db, part).await;
            for _ in 0..2 {
                let run = run(&workspace, "partitions", 1);
                assert_eq!(run["steps"], json!([]), "{part}: {run:#}");
                let told = told(&run, "partitions.pending");
                assert_eq!(told["object"], format!("public.{part}"), "{run:#}");
                assert_eq!(told["suggestion"], format!("ALTER TABLE public.{of} DETACH PARTITION public.{part} FINALIZE"), "{run:#}");
                assert_eq!(rows(&db, part).await, there);
            }
            db.execute(&format!("ALTER TABLE public.{of} DETACH PARTITION public.{part} FINALIZE")).await;
            assert_eq!(run(&workspace, "partitions", 0)["findings"], json!([]));
        }
    }
}

for_versions! {
    [pg18 = 18]
    /// A run of ours that breaks a detachment off tells of it, the table's other partitions wait,
    /// and the next run goes on.
    async fn what_a_run_breaks_off_is_told(major: u32) {
        for kind in ["cleanup", "archive", "partitions"] {
            let db = fresh_database(major).await;
            years(&db).await;
            let folder = tempfile::tempdir().unwrap();
            let workspace = task(Workspace::for_target(&db.url), kind, &options(kind, folder.path(), &json!({})));
            let reader = db.connect().await;
            reader.batch_execute("BEGIN; SELECT count(*) FROM ev").await.unwrap();
            let output = workspace.run(["run", kind, "--now", "--output", "json"]);
            let broken = output.json()["runs"][0].clone();
            let told = told(&broken, "partitions.outside");
            let out = told["object"].as_str().unwrap().to_owned();
            assert!(told["suggestion"].as_str().unwrap().contains(" FINALIZE; ALTER TABLE public.ev ATTACH PARTITION "), "{broken:#}");
            let steps = broken["steps"].as_array().unwrap();
            assert!(steps.iter().all(|s| !s["error"].as_str().unwrap_or_default().contains("already pending")), "{kind}: {broken:#}");
            let waiting = steps.iter().filter(|s| s["object"] != *out);
            assert!(waiting.clone().count() == 2 && waiting.clone().all(|s| s["error"].as_str().unwrap().contains("another partition of public.ev")), "{kind}: {broken:#}");
            reader.batch_execute("ROLLBACK").await.unwrap();
            // What partitions began it finishes, and drops the next time.
            for _ in 0..2 {
                run(&workspace, kind, 0);
            }
            assert_eq!(rows(&db, "ev").await, 1);
            for name in ["ev_2019", "ev_2020", "ev_2021"] {
                assert!(!exists(&db, name).await, "{kind} {name}");
            }
            assert_eq!(run(&workspace, kind, 0)["steps"], json!([]));
        }
    }
}
