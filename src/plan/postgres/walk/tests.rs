use super::*;

fn walk(path: Path) -> Walk {
    Walk {
        alias: "t".to_owned(),
        condition: "at < $1::date".to_owned(),
        params: vec![Param::Text("2026-01-01".to_owned())],
        progress: "here".to_owned(),
        ..Walk::of_all("public.t".to_owned(), 7, Fate::Delete, path, 250)
    }
}

#[test]
fn values_are_bound_and_numbered_on() {
    let blocks = walk(Path::Blocks {
        extent: Query::new("SELECT 1", []),
    });
    let statement = blocks.delete(&Range::Blocks(64, 128), &Without::default());
    assert_eq!(
        statement.sql,
        "DELETE FROM ONLY public.t AS t WHERE ctid >= $2::tid AND ctid < $3::tid AND (at < $1::date)"
    );
    assert_eq!(statement.params[1], Param::Text("(64,0)".to_owned()));

    let column = |name: &str, type_name: &str| KeyColumn {
        name: name.to_owned(),
        type_name: type_name.to_owned(),
    };
    let columns = vec![column("at", "date"), column("id", "uuid")];
    let keys = walk(Path::Key(columns.clone()));
    let key = |at: &str, id: &str| Some(vec![at.to_owned(), id.to_owned()]);
    let range = Range::Keys(key("a", "1"), key("b", "2"));
    assert_eq!(
        keys.delete(&range, &Without::default()).sql,
        "DELETE FROM ONLY public.t AS t WHERE (at, id) > ($2::date, $3::uuid) \
             AND (at, id) <= ($4::date, $5::uuid) AND (at < $1::date)"
    );
    let first = Range::Keys(None, None);
    assert_eq!(
        keys.bound(&columns, &first, 500).sql,
        "SELECT t.at::text, t.id::text FROM ONLY public.t AS t WHERE (at < $1::date) ORDER BY t.at, t.id OFFSET $2 LIMIT 1"
    );
    assert_eq!(first.behind(), None);
    let place = range.behind().unwrap();
    assert_eq!(key_of(&place, 2), key("b", "2"));
    assert_eq!(key_of(&place, 1), None);
    assert_eq!(block_of(&Range::Blocks(0, 7).behind().unwrap()), Some(7));
}
