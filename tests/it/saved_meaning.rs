//! Saved plans of rules whose conditions mean something else by the time they are carried out.

use crate::settings::role;
use crate::support::servers::{TestDatabase, fresh_database};
use crate::support::workspace::Workspace;

/// Saves the plan of a task, proves that it is refused after a `change`, for the definition of `what`, and that the
/// document says so.
pub(crate) async fn refused_after(
    change: &str,
    db: &TestDatabase,
    (workspace, task): (&Workspace, &str),
    what: &str,
) {
    let file = format!("{task}.json");
    workspace.run(["plan", task, "--save", &file]).expect(0);
    workspace.run(["plan", "--check", &file]).expect(0);
    db.execute(change).await;
    let said = workspace.run(["plan", "--check", &file]).expect(5).stdout;
    let definition = format!("the definition of {what}");
    assert!(said.contains(&definition), "{task}: {said}");
    let refused = workspace.run(["run", "--plan", &file]).expect(2);
    assert!(refused.stderr.contains(what), "{task}: {refused:#?}");
}

/// The same words mean other rows: by what a column is, what it is compared by, and what is computed.
#[tokio::test]
async fn what_a_condition_means_belongs_to_its_plan() {
    let db = fresh_database(18).await;
    db.execute(
        "CREATE COLLATION public.ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
         CREATE COLLATION public.cc (provider = icu, locale = 'und');
         CREATE TEXT SEARCH CONFIGURATION public.words (COPY = pg_catalog.english);
         CREATE TABLE public.t (id int PRIMARY KEY, at timestamptz NOT NULL, n int, s text, v text,
            made bool GENERATED ALWAYS AS (n % 2 = 0) VIRTUAL, kept bool GENERATED ALWAYS AS (n % 2 = 1) STORED);
         INSERT INTO public.t SELECT n, '2020-01-01', n, CASE WHEN n % 2 = 0 THEN 'done' ELSE 'DONE' END, n::text FROM generate_series(1, 100) n;
         CREATE TABLE public.u (lim int, gl int GENERATED ALWAYS AS (lim) VIRTUAL); INSERT INTO public.u VALUES (0)",
    )
    .await;
    let task = |more: &str| {
        format!(
            "kind: cleanup\ntarget: app\noptions: {{ rules: [{{ table: public.t, column: at, older_than: 30d, {more} }}] }}\n"
        )
    };
    let workspace = Workspace::for_target(&db.url)
        .task("computed", &task("where: made"))
        .task("stored", &task("keep: [kept]"))
        .task("collated", &task("where: \"s = 'done'\""))
        .task("typed", &task("where: \"n < '20'\""))
        .task(
            "elsewhere",
            &task("where: \"n % 2 = (SELECT max(gl) FROM public.u)\""),
        )
        .task("named", &task("where: \"v COLLATE public.cc < '5'\""))
        .task(
            "searched",
            &task("where: \"pg_catalog.to_tsvector('public.words', s) @@ 'done'\""),
        )
        .task("day", &task("where: \"at::date < '2021-01-01'\""))
        .task("aged", &task("where: \"id > 0\""));
    let database = db
        .strings("SELECT quote_ident(current_database())")
        .await
        .remove(0);
    let zone = format!("ALTER DATABASE {database} SET TimeZone = 'Asia/Tokyo'");
    for (name, what, change) in [
        (
            "computed",
            "column made of public.t is another one",
            "ALTER TABLE public.t ALTER made SET EXPRESSION AS (n % 2 = 1)",
        ),
        (
            "stored",
            "column kept of public.t is another one",
            "ALTER TABLE public.t ALTER kept SET EXPRESSION AS (false)",
        ),
        (
            "collated",
            "column s of public.t is another one",
            "ALTER TABLE public.t ALTER s TYPE text COLLATE public.ci",
        ),
        (
            "typed",
            "column n of public.t is another one",
            "ALTER TABLE public.t DROP made, DROP kept; ALTER TABLE public.t ALTER n TYPE text",
        ),
        (
            "elsewhere",
            "column gl of public.u is another one",
            "ALTER TABLE public.t ALTER n TYPE int USING n::int; ALTER TABLE public.u ALTER gl SET EXPRESSION AS (lim + 1)",
        ),
        (
            "named",
            "collation public.cc is another one",
            "DROP COLLATION public.cc; CREATE COLLATION public.cc (provider = icu, locale = 'und-u-kn')",
        ),
        (
            "searched",
            "text search configuration public.words is another one",
            "ALTER TEXT SEARCH CONFIGURATION public.words ALTER MAPPING FOR asciiword WITH pg_catalog.simple",
        ),
        ("day", "the setting TimeZone is another one", &*zone),
        (
            "aged",
            "column at of public.t is another one",
            "ALTER TABLE public.t ALTER at TYPE timestamptz(0)",
        ),
    ] {
        if name == "elsewhere" {
            db.execute("ALTER TABLE public.t ALTER n TYPE int USING n::int")
                .await;
        }
        refused_after(change, &db, (&workspace, name), what).await;
        assert_eq!(db.number("SELECT count(*) FROM public.t").await, 100);
    }
    // Reviewed anew, it is carried out.
    workspace
        .run(["plan", "day", "--save", "anew.json"])
        .expect(0);
    workspace.run(["run", "--plan", "anew.json"]).expect(0);
    assert_eq!(db.number("SELECT count(*) FROM public.t").await, 0);
}

/// What the functions of a condition call in turn, whatever way their bodies are kept, and what casts do, belongs to the
/// plan; of what nobody can follow the plan says so.
#[tokio::test]
async fn what_functions_call_in_turn_belongs_to_the_plan() {
    let db = fresh_database(15).await;
    db.execute(
        "CREATE SCHEMA app; CREATE TYPE public.price AS (cents int);
         CREATE FUNCTION public.parsed(int) RETURNS bool LANGUAGE sql IMMUTABLE RETURN $1 % 2 = 1;
         CREATE FUNCTION public.by_parsed(int) RETURNS bool LANGUAGE sql IMMUTABLE RETURN public.parsed($1);
         CREATE FUNCTION app.third(int) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN $1 % 2 = 1; END';
         CREATE FUNCTION app.second(int) RETURNS bool LANGUAGE sql IMMUTABLE SET search_path = app AS 'SELECT third($1)';
         CREATE FUNCTION public.first(int) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN app.second($1); END';
         CREATE FUNCTION public.cents(public.price) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT ($1).cents';
         CREATE CAST (public.price AS int) WITH FUNCTION public.cents(public.price);
         CREATE FUNCTION public.operated(int, int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT $1 % $2 = 1';
         CREATE OPERATOR public.%%% (FUNCTION = public.operated, LEFTARG = int, RIGHTARG = int);
         CREATE FUNCTION public.by_operator(int) RETURNS bool LANGUAGE sql IMMUTABLE RETURN $1 OPERATOR(public.%%%) 2;
         CREATE FUNCTION public.dynamic(int) RETURNS bool LANGUAGE plpgsql AS $$ DECLARE so bool; BEGIN EXECUTE 'SELECT public.par' || 'sed($1)' INTO so USING $1; RETURN so; END $$;
         CREATE TABLE public.t (id int PRIMARY KEY, at timestamptz NOT NULL, p public.price);
         INSERT INTO public.t SELECT n, '2020-01-01', ROW(n)::public.price FROM generate_series(1, 100) n",
    )
    .await;
    let task = |condition: &str| {
        format!(
            "kind: cleanup\ntarget: app\noptions: {{ rules: [{{ table: public.t, column: at, older_than: 30d, where: \"{condition}\" }}] }}\n"
        )
    };
    let mut workspace = Workspace::for_target(&db.url);
    let changes = [
        (
            "parsed",
            "public.by_parsed(id)",
            "public.parsed(integer) is another one",
            "CREATE OR REPLACE FUNCTION public.parsed(int) RETURNS bool LANGUAGE sql IMMUTABLE RETURN $1 % 4 = 1",
        ),
        (
            "bodies",
            "public.first(id)",
            "app.third(integer) is another one",
            "CREATE OR REPLACE FUNCTION app.third(int) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN $1 % 4 = 1; END'",
        ),
        (
            "operators",
            "public.by_operator(id)",
            "public.operated(integer,integer) is another one",
            "CREATE OR REPLACE FUNCTION public.operated(int, int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT $1 % $2 = 0'",
        ),
        (
            "casts",
            "p::int % 2 = 1",
            "public.cents(public.price) is another one",
            "CREATE OR REPLACE FUNCTION public.cents(public.price) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT ($1).cents + 1'",
        ),
        (
            "cast",
            "p::int % 2 = 0",
            "cast from public.price to integer is another one",
            "DROP CAST (public.price AS int); CREATE CAST (public.price AS int) WITH FUNCTION public.cents(public.price) AS IMPLICIT",
        ),
    ];
    for (name, condition, ..) in changes {
        workspace = workspace.task(name, &task(condition));
    }
    for (name, _, what, change) in changes {
        refused_after(change, &db, (&workspace, name), what).await;
        assert_eq!(db.number("SELECT count(*) FROM public.t").await, 100);
        // What has nothing to do with it keeps nobody.
        workspace
            .run(["plan", name, "--save", "anew.json"])
            .expect(0);
        db.execute("CREATE OR REPLACE FUNCTION public.nobodys() RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE OR REPLACE FUNCTION app.nobodys() RETURNS int LANGUAGE sql AS 'SELECT 2'").await;
        workspace.run(["plan", "--check", "anew.json"]).expect(0);
    }
    let workspace = workspace.task("dynamic", &task("public.dynamic(id)"));
    let told = "a saved plan does not hold what public.dynamic(integer) calls";
    let said = workspace.run(["plan", "dynamic"]).expect(0);
    assert!(said.stdout.contains(told), "{said:#?}");
    workspace
        .run(["plan", "dynamic", "--save", "d.json"])
        .expect(0);
    let saved = std::fs::read_to_string(workspace.path().join("d.json")).unwrap();
    assert!(saved.contains(told), "{saved}");
    let said = workspace.run(["plan", "bodies"]).expect(0).stdout;
    assert!(!said.contains("does not hold"), "{said}");
    workspace.run(["run", "--plan", "d.json"]).expect(0);
    assert_eq!(db.number("SELECT count(*) FROM public.t").await, 75);
}

/// What a policy lets through is what a rule takes.
#[tokio::test]
async fn policies_that_choose_rows_belong_to_their_plan() {
    let db = fresh_database(17).await;
    let (owner, url) = role(&db, "").await;
    db.execute(&format!(
        "CREATE FUNCTION public.odd(int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT $1 % 2 = 1';
         CREATE TABLE public.t (id int PRIMARY KEY, at timestamptz NOT NULL);
         INSERT INTO public.t SELECT n, '2020-01-01' FROM generate_series(1, 100) n;
         ALTER TABLE public.t ENABLE ROW LEVEL SECURITY; ALTER TABLE public.t FORCE ROW LEVEL SECURITY;
         CREATE POLICY chosen ON public.t USING (public.odd(id));
         ALTER TABLE public.t OWNER TO {owner}; ALTER FUNCTION public.odd(int) OWNER TO {owner}"
    ))
    .await;
    let workspace = Workspace::for_target(&url).task(
        "t",
        "kind: cleanup\ntarget: app\noptions: { rules: [{ table: public.t, column: at, older_than: 30d }] }\n",
    );
    for (what, change) in [
        (
            "row-level security of public.t is another one",
            "ALTER POLICY chosen ON public.t USING (NOT public.odd(id))",
        ),
        (
            "public.odd(integer) is another one",
            "CREATE OR REPLACE FUNCTION public.odd(int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT $1 % 4 = 1'",
        ),
    ] {
        refused_after(change, &db, (&workspace, "t"), what).await;
        assert_eq!(db.number("SELECT count(*) FROM public.t").await, 100);
    }
}

/// A trigger is its condition and its arguments, too.
#[tokio::test]
async fn a_trigger_made_anew_with_other_words_is_another_one() {
    let db = fresh_database(17).await;
    db.execute(
        "CREATE TABLE public.t (id int PRIMARY KEY, at timestamptz NOT NULL);
         INSERT INTO public.t SELECT n, '2020-01-01' FROM generate_series(1, 100) n;
         CREATE TABLE public.c (t int REFERENCES public.t ON DELETE CASCADE); CREATE INDEX ON public.c (t);
         INSERT INTO public.c SELECT generate_series(1, 100);
         CREATE TABLE public.other (id int); INSERT INTO public.other SELECT generate_series(1, 1000);
         CREATE FUNCTION public.tf() RETURNS trigger LANGUAGE plpgsql
            AS 'BEGIN DELETE FROM public.other WHERE id < TG_ARGV[0]::int; RETURN OLD; END';
         CREATE TRIGGER tt BEFORE DELETE ON public.t FOR EACH ROW EXECUTE FUNCTION public.tf('0');
         CREATE TRIGGER ct AFTER DELETE ON public.c FOR EACH ROW WHEN (OLD.t < 0) EXECUTE FUNCTION public.tf('500')",
    )
    .await;
    let workspace = Workspace::for_target(&db.url).task(
        "t",
        "kind: cleanup\ntarget: app\noptions: { rules: [{ table: public.t, column: at, older_than: 30d }] }\n",
    );
    for (what, change, back) in [
        (
            "trigger tt of public.t, which calls public.tf() is another one",
            "DROP TRIGGER tt ON public.t; CREATE TRIGGER tt BEFORE DELETE ON public.t FOR EACH ROW EXECUTE FUNCTION public.tf('5000')",
            "DROP TRIGGER tt ON public.t; CREATE TRIGGER tt BEFORE DELETE ON public.t FOR EACH ROW EXECUTE FUNCTION public.tf('0')",
        ),
        (
            "trigger ct of public.c, which calls public.tf() is another one",
            "DROP TRIGGER ct ON public.c; CREATE TRIGGER ct AFTER DELETE ON public.c FOR EACH ROW EXECUTE FUNCTION public.tf('500')",
            "DROP TRIGGER ct ON public.c; CREATE TRIGGER ct AFTER DELETE ON public.c FOR EACH ROW WHEN (OLD.t < 0) EXECUTE FUNCTION public.tf('500')",
        ),
    ] {
        refused_after(change, &db, (&workspace, "t"), what).await;
        // The same once more is the same.
        db.execute(back).await;
        workspace.run(["plan", "--check", "t.json"]).expect(0);
    }
    workspace.run(["run", "--plan", "t.json"]).expect(0);
    let left =
        "SELECT (SELECT count(*) FROM public.t) * 10000 + (SELECT count(*) FROM public.other)";
    assert_eq!(db.number(left).await, 1000);
}
