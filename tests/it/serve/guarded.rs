//! Who may read, once there is a token.

use std::os::unix::fs::PermissionsExt;

use super::{Answer, Served, TASK, schedules};
use crate::support::workspace::Workspace;

const TOKEN: &str = "a-token-of-the-tests";
const PAGES: [&str; 7] = [
    "/",
    "/runs",
    "/runs/last",
    "/tasks",
    "/findings",
    "/report",
    "/live",
];

fn workspace(extra: &str) -> Workspace {
    let workspace = Workspace::new("targets: {}\n").task("analyze", TASK);
    let history = format!("sqlite:{}", workspace.history().display());
    let yaml = schedules("postgres://127.0.0.1:1/none", &["daily"])
        .replace("sqlite:/var/tmp/none.db", &history);
    workspace.file("schedules.yaml", &format!("{yaml}{extra}"));
    workspace
}

fn start(workspace: &Workspace) -> Served {
    Served::start(workspace, &workspace.path().join("schedules.yaml"))
}

/// As a proxy of another machine asks on its behalf.
fn through_a_proxy(served: &Served, path: &str) -> Answer {
    served.ask("GET", path, &["X-Forwarded-For: 203.0.113.7"], "")
}

#[test]
fn with_a_token_reading_needs_it_too() {
    let workspace = workspace("").env("MAINT_TOKEN", TOKEN);
    let served = start(&workspace);
    for path in PAGES {
        let answer = through_a_proxy(&served, path);
        assert_eq!(answer.code, 303, "{path}: {answer:?}");
        assert!(answer.head.contains("location: /login"), "{path}");
        assert!(!answer.body.contains("analyze"), "{path}");
    }
    let metrics = through_a_proxy(&served, "/metrics");
    assert_eq!(metrics.code, 401, "{metrics:?}");
    assert!(metrics.head.contains("www-authenticate: bearer"));
    assert!(!metrics.body.contains("maint_"), "{metrics:?}");
    for path in ["/healthz", "/readyz"] {
        assert_eq!(through_a_proxy(&served, path).code, 200, "{path}");
    }
    let bearer = format!("Authorization: Bearer {TOKEN}");
    for path in ["/", "/tasks", "/metrics"] {
        assert_eq!(served.ask("GET", path, &[&bearer], "").code, 200, "{path}");
    }
}

#[test]
fn what_is_said_to_be_public_may_be_read_by_everybody_and_nothing_else() {
    let workspace = workspace("web: { public: true }\n").env("MAINT_TOKEN", TOKEN);
    let served = start(&workspace);
    for path in ["/", "/tasks", "/findings", "/metrics"] {
        assert_eq!(through_a_proxy(&served, path).code, 200, "{path}");
    }
    let refused = served.ask("POST", "/runs", &[], "what=analyze%40app");
    assert_eq!(refused.code, 403, "{refused:?}");
    // As soon as it is not said any more, it is not any more.
    let yaml = std::fs::read_to_string(workspace.path().join("schedules.yaml")).unwrap();
    workspace.file(
        "schedules.yaml",
        &yaml.replace("public: true", "public: false"),
    );
    super::wait_until("it is not public", || {
        through_a_proxy(&served, "/").code == 303
    });
    assert_eq!(through_a_proxy(&served, "/metrics").code, 401);
}

#[test]
fn guesses_are_limited_and_told_with_where_they_came_from() {
    let workspace = workspace("").env("MAINT_TOKEN", TOKEN);
    let served = start(&workspace);
    let mut codes = Vec::new();
    for n in 0..14 {
        let guess = format!("Authorization: Bearer guess-number-{n}");
        let path = if n % 2 == 0 { "/metrics" } else { "/runs" };
        let answer = served.ask("GET", path, &[&guess, "X-Forwarded-For: 203.0.113.7"], "");
        codes.push(answer.code);
        if answer.code == 429 {
            assert!(answer.head.contains("retry-after: "), "{answer:?}");
        }
    }
    // While ten were answered, each after half a second, about one became free again.
    assert_eq!(codes[..10], [403; 10]);
    assert!(codes[10..].contains(&429), "{codes:?}");
    let login = served.ask("POST", "/login", &[], &format!("token={TOKEN}"));
    assert_eq!(login.code, 429, "{login:?}");
    assert!(login.body.contains("Too many wrong tokens"), "{login:?}");
    let (_, said) = served.stop();
    let told = said.matches("a wrong token was sent").count();
    assert!((10..14).contains(&told), "{said}");
    assert!(
        said.contains("127.0.0.1 (which says it asks for 203.0.113.7)"),
        "{said}"
    );
    assert!(!said.contains("guess-number"), "{said}");
}

#[test]
fn what_is_done_is_told_with_who_did_it() {
    let workspace = workspace("").env("MAINT_TOKEN", TOKEN);
    let served = start(&workspace);
    let bearer = format!("Authorization: Bearer {TOKEN}");
    let paused = served.ask("POST", "/schedules/daily/pause", &[&bearer], "");
    assert_eq!(paused.code, 303);
    let entered = served.ask("POST", "/login", &[], &format!("token={TOKEN}"));
    assert_eq!(entered.code, 303);
    let next = served.ask("GET", "/next", &[&bearer], "");
    assert!(next.body.contains("from 127.0.0.1"), "{}", next.body);
    let (_, said) = served.stop();
    assert!(said.contains("schedule daily is paused"), "{said}");
    assert!(said.contains("somebody logged in"), "{said}");
    assert!(
        said.contains("127.0.0.1") && !said.contains(TOKEN),
        "{said}"
    );
}

#[test]
fn a_token_is_long_and_never_on_a_command_line() {
    let workspace = workspace("");
    let file = workspace.path().join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let mode = |mode| {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(0o644);
    let path = file.to_str().unwrap();
    let refused = |args: &[&str], word: &str| {
        let mut all = vec!["serve", "--listen", "127.0.0.1:0"];
        all.extend(args);
        let output = workspace.run(all).expect(2);
        assert!(output.stderr.contains(word), "{output:?}");
        assert!(!output.stderr.contains(TOKEN), "{output:?}");
    };
    refused(&["--token", TOKEN], "--token-file");
    refused(&["--token-file", path], "can be read by everybody");
    refused(&["--token-file", "/dev/zero"], "not a regular file");
    mode(0o600);
    std::fs::write(&file, "fifteen-letters\n").unwrap();
    refused(&["--token-file", path], "15 characters");
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();

    let workspace = workspace.env("MAINT_TOKEN_FILE", path);
    let served = start(&workspace);
    assert_eq!(served.get("/").0, 303);
    let bearer = format!("Authorization: Bearer {TOKEN}");
    assert_eq!(served.ask("GET", "/", &[&bearer], "").code, 200);
}

/// What a function of the application raises may hold anything of a row: whoever may only look does
/// not see it, nor does the monitoring; who has the token does.
#[tokio::test]
async fn what_the_public_sees_holds_nothing_of_rows() {
    let db = crate::support::servers::fresh_database(17).await;
    db.execute(
        "CREATE TABLE t (id int PRIMARY KEY, at timestamptz NOT NULL, mail text);
         INSERT INTO t SELECT n, now() - interval '2 years', 'ann.secret@example.org' FROM generate_series(1, 20) n;
         CREATE FUNCTION holds() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
            IF OLD.id = 7 THEN RAISE EXCEPTION 'held for %', OLD.mail; END IF; RETURN OLD; END$$;
         CREATE TRIGGER holds BEFORE DELETE ON t FOR EACH ROW EXECUTE FUNCTION holds()",
    )
    .await;
    let workspace = Workspace::for_target(&db.url)
        .task("clean", "kind: cleanup\ntarget: app\noptions: { rules: [{ table: public.t, column: at, older_than: 1y, max_share: 100% }] }\n")
        .env("MAINT_TOKEN", TOKEN);
    let file = workspace.path().join("schedules.yaml");
    let yaml = std::fs::read_to_string(&file).unwrap();
    let history = format!("sqlite:{}", workspace.history().display());
    let yaml = yaml.replace("sqlite:maint.db", &history);
    workspace.file(
        "schedules.yaml",
        &format!("{yaml}web: {{ public: true }}\n"),
    );
    workspace.run(["run", "clean", "--now"]).expect(1);
    assert_eq!(db.number("SELECT count(*) FROM t").await, 1);
    const VALUE: &str = "ann.secret";
    let known = workspace.run(["show", "last"]).expect(0);
    assert!(known.stdout.contains(VALUE), "{known:#?}");
    for output in ["human", "json", "nagios"] {
        let told = workspace.run(["status", "--output", output]);
        // One line has room for one reason, and the task has failed as long as the finding is there.
        if output != "nagios" {
            assert!(told.stdout.contains("rows.refused"), "{told:#?}");
        }
        assert!(!told.stdout.contains(VALUE), "{told:#?}");
    }
    let served = start(&workspace);
    let bearer = format!("Authorization: Bearer {TOKEN}");
    let mut shown = 0;
    let pages = PAGES.into_iter().filter(|path| *path != "/live");
    for path in pages.chain(["/fleet"]) {
        let public = through_a_proxy(&served, path);
        assert_eq!(public.code, 200, "{path}: {public:?}");
        assert!(!public.body.contains(VALUE), "{path}: {public:?}");
        let own = served.ask("GET", path, &[&bearer], "");
        shown += usize::from(own.body.contains(VALUE));
    }
    assert!(shown >= 3, "{shown} pages tell who has the token");
}

/// Without a token, on this machine, nobody's name elsewhere is answered, nor its numbers given.
#[test]
fn metrics_are_not_given_to_names_of_other_machines() {
    let served = start(&workspace(""));
    assert_eq!(served.ask("GET", "/metrics", &[], "").code, 200);
    let evil = served.ask_as("evil.example", "/metrics");
    assert_eq!(evil.code, 421, "{evil:?}");
    assert!(!evil.body.contains("maint_"), "{evil:?}");
}
