//! What manifests hold of the configuration: its ports, its templates, its command lines.

use std::collections::BTreeSet;

use crate::support::workspace::Workspace;

const SCHEDULES: &str = "history: \"${HISTORY:-sqlite:/var/lib/maint/maint.db}\"\n\
    targets:\n  app: { engine: postgres, url: \"${APP_URL:-}\" }\n\
    schedules:\n  night: { cron: \"0 2 * * *\", tasks: [statistics] }\n";

fn workspace(schedules: &str) -> Workspace {
    Workspace::new(schedules).task("statistics", "kind: analyze\ntarget: app\n")
}

/// The TCP ports that the NetworkPolicy lets pods out to besides that of names, and the notes.
fn ports(workspace: &Workspace) -> (BTreeSet<u16>, String) {
    let out = workspace.path().join("out");
    let args = ["export", "kubernetes", "--out", out.to_str().unwrap()];
    let said = workspace.run(args).expect(0);
    let policy = std::fs::read_to_string(out.join("maint-networkpolicy.yaml")).unwrap();
    let numbers = policy.lines().filter_map(|line| line.split_once("port: "));
    let numbers = numbers.map(|(_, number)| number.parse().unwrap());
    let numbers = numbers.filter(|number| *number != 53).collect();
    (numbers, said.stderr)
}

/// However an address is written, pods get through to it.
#[test]
fn pods_get_through_to_what_addresses_name() {
    for (url, expected) in [
        ("host=h port=6003 dbname=d", vec![443, 6003]),
        ("host=h,i port=6003,6004", vec![443, 6003, 6004]),
        ("postgres://u@/d?host=h&port=6005", vec![443, 6005]),
        ("postgres://u@h/d?port=6006", vec![443, 6006]),
        ("postgres://u@h:6007,i/d", vec![443, 5432, 6007]),
        (
            "postgres://u@h/d?sslrootcert=/only/in/the/pod.pem",
            vec![443, 5432],
        ),
    ] {
        let open = SCHEDULES.replace("${APP_URL:-}", url);
        for workspace in [workspace(&open), workspace(SCHEDULES).env("APP_URL", url)] {
            let (numbers, notes) = ports(&workspace);
            assert!(numbers.into_iter().eq(expected.iter().copied()), "{url}");
            assert!(!notes.contains("a guess"), "{url}: {notes}");
        }
    }
    let everything = SCHEDULES.replace("engine: postgres", "engine: mongodb")
        + "smtp: { url: \"${SMTP}\", from: maint@example.com }\n\
           notify: { on: [failed], webhook: { url: \"${HOOK}\" }, ping: { url: \"${WATCH}\" }, email: { to: [dba@example.com] } }\n";
    let workspace = Workspace::new(&everything)
        .task(
            "old",
            "kind: archive\ntarget: app\noptions:\n  rules: [{ collection: t, field: at, older_than: 90d }]\n  destination: { files: \"s3://bucket/t\" }\n",
        )
        .task("statistics", "kind: snapshot\ntarget: app\n")
        .env("APP_URL", "mongodb://a:6001,b/d?replicaSet=r")
        .env("HISTORY", "postgres://h/d?port=6008")
        .env("SMTP", "smtp://mail.example:2525")
        .env("HOOK", "https://hooks.example:8443/x")
        .env("WATCH", "http://watch.example/x")
        .env("AWS_ENDPOINT_URL", "http://minio:9000");
    let (numbers, notes) = ports(&workspace);
    let expected = [80, 443, 2525, 6001, 6008, 8443, 9000, 27017];
    assert!(numbers.iter().eq(&expected), "{numbers:?}");
    assert!(!notes.contains("a guess"), "{notes}");
}

/// A port that is not known where the manifests are written is told.
#[test]
fn ports_that_nobody_knows_here_are_told() {
    let (numbers, notes) = ports(&workspace(SCHEDULES));
    assert!(numbers.into_iter().eq([443, 5432]));
    assert!(
        notes.contains("out to port 5432 for target `app`, which is a guess"),
        "{notes}"
    );
    assert!(
        notes.contains("not set here: APP_URL, HISTORY, so that the NetworkPolicy knows"),
        "{notes}"
    );
    let files = workspace(SCHEDULES)
        .env("APP_URL", "postgres://u@h/d?service=elsewhere")
        .task(
            "old",
            "kind: archive\ntarget: app\noptions:\n  table: public.t\n  column: at\n  older_than: 90d\n  destination: { files: \"s3://bucket/t\" }\n",
        );
    let (_, notes) = ports(&files);
    for told in [
        "target `app`, which is a guess, as its address cannot be taken apart here",
        "the files of task `old`, which is a guess, as AWS_ENDPOINT_URL is not set here",
    ] {
        assert!(notes.contains(told), "{notes}");
    }
}

/// Templates of one's own go along, and lie where maint looks for them.
#[test]
fn templates_go_along() {
    let workspace = workspace(SCHEDULES);
    workspace.file("templates/report/subject.txt.j2", "our own {{ title }}\n");
    workspace.file(
        "templates/webhook/generic.json.j2",
        "{\"ours\": \"${NOT_OURS}\"}\n",
    );
    workspace.file("templates/report/notes.md", "no template\n");
    let said = workspace.run(["export", "kubernetes"]).expect(0);
    for line in [
        "our own {{ title }}",
        "key: templates-report-subject-txt-j2",
        "path: templates/report/subject.txt.j2",
        "path: templates/webhook/generic.json.j2",
        "path: tasks/statistics.yaml",
    ] {
        assert!(said.stdout.contains(line), "{line}: {}", said.stdout);
    }
    assert!(!said.stdout.contains("no template"), "{}", said.stdout);
    // They are no configuration: what looks like a variable there is none.
    assert!(!said.stderr.contains("NOT_OURS"), "{}", said.stderr);
}

/// To cron a `%` is the end of the line, in each of them.
#[test]
fn no_line_of_a_crontab_has_a_bare_percent_sign() {
    for cron in ["0 3 L * *", "0 3 L,15 * *", "0 3 * * *"] {
        let workspace = workspace(&SCHEDULES.replace("0 2 * * *", cron));
        let text = workspace
            .run(["export", "crontab", "--program", "/opt/50%/maint"])
            .expect(0)
            .stdout;
        let lines = text.lines().filter(|line| line.contains("/maint "));
        let lines: Vec<&str> = lines.collect();
        assert_eq!(
            lines.len(),
            if cron.contains(',') { 2 } else { 1 },
            "{text}"
        );
        for line in lines {
            assert!(line.contains("/opt/50\\%/maint "), "{line}");
            let bare = line.replace("\\%", "");
            assert!(!bare.contains('%'), "{line}");
        }
    }
}

/// `serve` answers probes once the history does, and is given time for that.
#[test]
fn a_start_has_minutes() {
    let said = workspace(SCHEDULES)
        .run(["export", "kubernetes", "--mode", "serve"])
        .expect(0);
    let probe = said.stdout.split("startupProbe:").nth(1).unwrap();
    let probe = probe.split("livenessProbe:").next().unwrap();
    let number = |key: &str| -> u32 {
        let line = probe.lines().find_map(|line| line.trim().strip_prefix(key));
        line.unwrap_or_else(|| panic!("{probe}"))
            .trim()
            .parse()
            .unwrap()
    };
    assert!(
        number("periodSeconds:") * number("failureThreshold:") >= 180,
        "{probe}"
    );
}
