//! What a server may answer: NULLs, odd types, fewer columns. Nothing panics.

use maint::engines::postgres::connect::Dial;
use maint::engines::postgres::{Answer, Row, Session, watch};

use crate::support::servers::fresh_database;

/// A value of about every type there is, and none.
const ODD: &str = "SELECT NULL, NULL::int4, NULL::text, NULL::bool, 1::int2, 2::int4, 3::int8, 4::oid, 1.5::float4,
    'NaN'::float8, 'infinity'::timestamptz, '-infinity'::timestamptz, '4713-01-01 BC'::timestamptz, now(), now()::timestamp,
    true, 'x'::\"char\", 'name'::name, 'text'::text, 'b'::bytea, '{}'::json, '{\"a\": 1}'::jsonb, '{}'::int4[],
    ARRAY[1, NULL], ARRAY[NULL]::text[], ARRAY[[1, 2], [3, 4]], ARRAY['a', 'b'], ARRAY[1.5::float4], 1::numeric,
    'NaN'::numeric, '1 day'::interval, '(1,2)'::point, '127.0.0.1'::inet, gen_random_uuid(), '[1,2)'::int4range,
    ROW(1, 'a'), 'pg_class'::regclass, ''::xml, '(0,1)'::tid, '0/0'::pg_lsn, B'101'::bit(3), pg_current_xact_id()";

fn read<T: Answer>(row: &Row, wrong: &mut Vec<String>) {
    for n in 0..50 {
        if let Err(error) = row.get::<T>(n) {
            wrong.push(error.to_string());
        }
    }
}

#[tokio::test]
async fn no_answer_makes_it_panic() {
    let db = fresh_database(17).await;
    let dial = Dial::resolve(Some(&db.url), &|_| None).unwrap();
    let session = Session::open(&dial, "maint test").await.unwrap();
    let rows = session.query("asking odd things", ODD, &[]).await.unwrap();
    let (row, mut wrong) = (&rows[0], Vec::new());
    read::<bool>(row, &mut wrong);
    read::<i8>(row, &mut wrong);
    read::<i16>(row, &mut wrong);
    read::<i32>(row, &mut wrong);
    read::<i64>(row, &mut wrong);
    read::<u32>(row, &mut wrong);
    read::<f32>(row, &mut wrong);
    read::<f64>(row, &mut wrong);
    read::<String>(row, &mut wrong);
    read::<serde_json::Value>(row, &mut wrong);
    read::<chrono::DateTime<chrono::Utc>>(row, &mut wrong);
    read::<Option<String>>(row, &mut wrong);
    read::<Option<i64>>(row, &mut wrong);
    read::<Vec<i32>>(row, &mut wrong);
    read::<Vec<String>>(row, &mut wrong);
    read::<Vec<Option<String>>>(row, &mut wrong);
    read::<Option<Vec<f32>>>(row, &mut wrong);
    // Errors name the question and the column.
    assert!(
        wrong
            .iter()
            .all(|error| error.contains("asking odd things, column ")),
        "{wrong:#?}"
    );
    assert!(
        wrong.iter().any(|error| error.contains("column 17 (name)")),
        "{wrong:#?}"
    );
    // By name the same: of another type, and one that is not there.
    for column in ["name", "none"] {
        let error = row.named::<bool>(column).unwrap_err().to_string();
        let asked = format!("asking odd things, column {column}");
        assert!(error.contains(&asked), "{error}");
    }
    let by_name = row.named::<String>("name").unwrap();
    assert_eq!(by_name, row.get::<String>(17).unwrap());
    // An answer of no columns at all, where one is expected.
    let none = session.query("asking nothing", "SELECT", &[]).await;
    assert!(none.unwrap()[0].get::<i32>(0).is_err());
    assert_eq!(
        session.simple_value("asking", "SELECT").await.unwrap(),
        None
    );
    // Who looks on asks about sessions that are not there, and its own.
    for pids in [vec![], vec![0], vec![-1, i32::MAX, session.pid]] {
        watch::waiters(&session, &pids, 0).await.unwrap();
        watch::progress(&session, &pids).await.unwrap();
        watch::holding_up_wraparound(&session, &pids).await.unwrap();
    }
    for relation in [0, 1259, u32::MAX] {
        for writers in [false, true] {
            let holders = watch::lock_holders(&session, relation, 0, writers).await;
            holders.unwrap();
        }
        let old = watch::old_transaction(&session, relation, false, 0).await;
        old.unwrap();
    }
}
