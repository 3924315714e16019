//! What programs that know nothing of maint find in the files.

use std::process::Command;

use serde_json::{Value, json};

use super::{archive, checksum, into_files};
use crate::support::servers::fresh_database;

/// Types and rows of all files, once as DuckDB and once as Arrow reads them.
const READ: &str = r#"
import json, sys, duckdb, pyarrow.dataset
folder = sys.argv[1]
files = f"read_parquet('{folder}/**/*.parquet', hive_partitioning = true)"
duck = duckdb.connect()
types = duck.sql(f"DESCRIBE SELECT * FROM {files}").fetchall()
cursor = duck.sql(f"SELECT * EXCLUDE (\"at\", ts) FROM {files} ORDER BY id")
rows = [dict(zip(cursor.columns, row)) for row in cursor.fetchall()]
arrow = pyarrow.dataset.dataset(folder, format="parquet", partitioning="hive").to_table().sort_by("id")
print(json.dumps({
    "duckdb": {"types": {t[0]: t[1] for t in types}, "rows": rows},
    "arrow": {"types": {f.name: str(f.type) for f in arrow.schema}, "rows": arrow.drop_columns(["ts"]).to_pylist()},
}, default=str))
"#;

fn read(folder: &std::path::Path) -> Value {
    let tools = std::env::var("MAINT_TEST_TOOLS").expect(
        "MAINT_TEST_TOOLS names the folder of the tools: run ./scripts/test, or export MAINT_TEST_TOOLS=$(./scripts/tools)",
    );
    let output = Command::new(format!("{tools}/bin/python"))
        .args(["-c", READ])
        .arg(folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Others read arrays as lists of typed elements, with the dimensions of
/// those that are more than a list beside them; back in the server they are
/// what they were.
#[tokio::test]
async fn arrays_are_lists() {
    let db = fresh_database(17).await;
    db.execute(r#"CREATE TYPE mood AS ENUM ('fine', 'it''s "odd"'); CREATE DOMAIN marks AS int[];
        CREATE TABLE t (id int PRIMARY KEY, at timestamptz NOT NULL, i int[], t text[], t_dimensions text, n numeric(10, 2)[], b bool[], ts timestamptz[],
            u uuid[], bin bytea[], m mood[], j jsonb[], c char(3)[], r int4range[], g marks, x box[]);
        INSERT INTO t VALUES
        (1, '2020-01-05 00:00+00', '{1,NULL,-3}', ARRAY['a,b', NULL, 'NULL', '', '\', '"'], 'mine', '{1.50,-0.05}', '{t,f}', '{"2020-01-01 00:00:00.000001+00"}',
            '{00000000-0000-0000-0000-000000000001}', '{"\\x00ff","\\x"}', '{fine,"it''s \"odd\""}', '{"{\"a\": [1]}"}', '{ab,abc}', '{"[1,5)",empty}', '{1,2}', '{(2,2),(1,1);(4,4),(3,3)}'),
        (2, '2020-02-05 00:00+00', '[0:1]={7,8}', '{{a,b},{NULL,d}}', NULL, '{}', '{}', '{infinity}', '{}', '{}', '{}', '{}', '{}', '{}', '[-1:0][5:6]={{1,2},{3,4}}', '{}'),
        (3, '2020-03-05 00:00+00', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
        -- Whether an array may hold nulls is no part of its value.
        INSERT INTO t (id, at, i) SELECT 4, '2020-03-06 00:00+00', array_remove(array_append('{1}'::int[], NULL), NULL);
        UPDATE t SET i[2] = 5 WHERE i[2] IS NULL AND id = 1;"#).await;
    let before = checksum(&db, "SELECT * FROM t").await;
    let (workspace, folder) = into_files(
        &db,
        &json!({ "table": "t", "column": "at", "older_than": "1d" }),
    );
    archive(&workspace);
    workspace.run(["archive", "verify"]).expect(0);
    workspace
        .run(["archive", "restore", "--into", "back"])
        .expect(0);
    assert_eq!(checksum(&db, "SELECT * FROM back").await, before);

    let found = read(folder.path());
    for (column, duckdb, arrow) in [
        ("i", "INTEGER[]", "list<element: int32>"),
        ("t", "VARCHAR[]", "list<element: string>"),
        ("n", "DECIMAL(10,2)[]", "list<element: decimal128(10, 2)>"),
        ("b", "BOOLEAN[]", "list<element: bool>"),
        (
            "ts",
            "TIMESTAMP WITH TIME ZONE[]",
            "list<element: timestamp[us, tz=UTC]>",
        ),
        ("bin", "BLOB[]", "list<element: binary>"),
        ("m", "VARCHAR[]", "list<element: string>"),
        ("c", "VARCHAR[]", "list<element: string>"),
        ("g", "INTEGER[]", "list<element: int32>"),
        ("x", "VARCHAR", "string"),
    ] {
        assert_eq!(found["duckdb"]["types"][column], duckdb, "{column}");
        assert_eq!(found["arrow"]["types"][column], arrow, "{column}");
    }
    for reader in ["duckdb", "arrow"] {
        let rows = &found[reader]["rows"];
        assert_eq!(rows[0]["i"], json!([1, 5, -3]), "{reader}");
        let texts = json!(["a,b", null, "NULL", "", "\\", "\""]);
        assert_eq!(rows[0]["t"], texts, "{reader}");
        assert_eq!(rows[0]["t_dimensions"], "mine", "{reader}");
        assert_eq!(rows[0]["n"], json!(["1.50", "-0.05"]), "{reader}");
        assert_eq!(rows[0]["b"], json!([true, false]), "{reader}");
        assert_eq!(rows[0]["m"], json!(["fine", "it's \"odd\""]), "{reader}");
        assert_eq!(rows[0]["j"], json!(["{\"a\": [1]}"]), "{reader}");
        assert_eq!(rows[0]["i_dimensions"], Value::Null, "{reader}");
        assert_eq!(rows[1]["i"], json!([7, 8]), "{reader}");
        assert_eq!(rows[1]["i_dimensions"], "[0:1]", "{reader}");
        assert_eq!(rows[1]["t"], json!(["a", "b", null, "d"]), "{reader}");
        assert_eq!(rows[1]["t_dimensions_"], "[1:2][1:2]", "{reader}");
        assert_eq!(rows[1]["g_dimensions"], "[-1:0][5:6]", "{reader}");
        assert_eq!(rows[1]["n"], json!([]), "{reader}");
        assert_eq!(rows[2]["i"], Value::Null, "{reader}");
        assert_eq!(rows[3]["i"], json!([1]), "{reader}");
        assert_eq!(
            rows[0]["month"]
                .to_string()
                .trim_matches('"')
                .trim_start_matches('0'),
            "1",
            "{reader}"
        );
    }
}
