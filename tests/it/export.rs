//! What other schedulers are told: judged by their own tools.

use std::process::Command;

use crate::support::workspace::Workspace;

/// Three versions that are in use.
const KUBERNETES: [&str; 3] = ["1.33", "1.34", "1.35"];

const SCHEDULES: &str = r#"timezone: Europe/Berlin
history: "${HISTORY:-sqlite:/var/lib/maint/maint.db}"
targets:
  app: { engine: postgres, url: "${DATABASE_URL}" }
schedules:
  nightly_work: { cron: "0 2 * * *", tasks: [statistics, rows-2], window: "02:00-05:00" }
  weekend: { cron: "*/30 1-3 * * 6-7", tasks: [statistics], timezone: America/New_York, catch_up: 2h }
  quarter: { cron: "15 4 1,15 jan,apr * ", tasks: [statistics], jitter: 5min }
  off: { cron: "0 0 * * *", tasks: [statistics], enabled: false }
"#;

fn workspace(schedules: &str) -> Workspace {
    Workspace::new(schedules)
        .task(
            "statistics",
            "kind: analyze\ntarget: app\nlimits: { grace: 40s }\n",
        )
        .task("rows-2", "kind: vacuum\ntarget: app\n")
        .env("DATABASE_URL", "postgres://app:geheim@db.example/app")
}

fn refused(workspace: &Workspace, args: &[&str]) -> String {
    let output = workspace.command(args).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(output.stdout.is_empty());
    text
}

#[test]
fn manifests_are_what_three_versions_of_kubernetes_expect() {
    let tools = std::env::var("MAINT_TEST_TOOLS").expect(
        "MAINT_TEST_TOOLS names the folder of the Python tools: run ./scripts/test, or export MAINT_TEST_TOOLS=$(./scripts/tools)",
    );
    let workspace = workspace(SCHEDULES);
    for mode in ["cronjobs", "due", "serve"] {
        let output = workspace
            .command([
                "export",
                "kubernetes",
                "--mode",
                mode,
                "--namespace",
                "data",
            ])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(!text.contains("geheim"), "a secret is in the manifests");
        let file = format!("{mode}.yaml");
        workspace.file(&file, &text);
        for version in KUBERNETES {
            let verdict = Command::new(format!("{tools}/bin/kubernetes-validate"))
                .args(["--strict", "-k", version])
                .arg(workspace.path().join(&file))
                .output()
                .unwrap();
            assert!(verdict.status.success(), "{mode} {version}: {verdict:?}");
        }
    }
}

#[test]
fn cron_jobs_carry_zone_cadence_and_care() {
    let workspace = workspace(SCHEDULES);
    let out = workspace.path().join("out");
    let args = ["export", "kubernetes", "--out", out.to_str().unwrap()];
    workspace.command(args).assert().success();
    let mut names: Vec<_> = std::fs::read_dir(&out)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "maint-configmap.yaml",
            "maint-history-persistentvolumeclaim.yaml",
            "maint-networkpolicy.yaml",
            "maint-nightly-work-cronjob.yaml",
            "maint-quarter-cronjob.yaml",
            "maint-weekend-cronjob.yaml",
        ]
    );
    let read = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
    let nightly = read("maint-nightly-work-cronjob.yaml");
    for line in [
        "schedule: 0 2 * * *",
        "timeZone: Europe/Berlin",
        "concurrencyPolicy: Forbid",
        // Until the window closes.
        "startingDeadlineSeconds: 10800",
        "backoffLimit: 0",
        "runAsNonRoot: true",
        "readOnlyRootFilesystem: true",
        "- ALL",
        // The longest grace, and time to clear up.
        "terminationGracePeriodSeconds: 50",
        "- --due",
        "- nightly_work",
    ] {
        assert!(nightly.contains(line), "{line} is not in\n{nightly}");
    }
    let weekend = read("maint-weekend-cronjob.yaml");
    // To Kubernetes there is no day 7.
    assert!(
        weekend.contains("schedule: '*/30 1-3 * * 0,6'")
            || weekend.contains("schedule: \"*/30 1-3 * * 0,6\""),
        "{weekend}"
    );
    assert!(weekend.contains("timeZone: America/New_York"));
    assert!(weekend.contains("startingDeadlineSeconds: 7200"));
    let config = read("maint-configmap.yaml");
    assert!(config.contains("url: \"${DATABASE_URL}\""), "{config}");
}

#[test]
fn what_would_be_lost_or_known_is_refused() {
    let beside = workspace(&SCHEDULES.replace(
        "${HISTORY:-sqlite:/var/lib/maint/maint.db}",
        "sqlite:maint.db",
    ));
    let text = refused(&beside, &["export", "kubernetes"]);
    assert!(text.contains("would be lost with each pod"), "{text}");
    assert!(text.contains("sqlite:/var/lib/maint/maint.db"), "{text}");

    let text = refused(
        &workspace(SCHEDULES),
        &["export", "kubernetes", "--mode", "serve", "--replicas", "3"],
    );
    assert!(
        text.contains("3 replicas need a history in PostgreSQL"),
        "{text}"
    );

    // What `maint check` refuses runs nowhere.
    let url = SCHEDULES.replace("${DATABASE_URL}", "postgres://h/d?schema=public");
    assert_ne!(url, SCHEDULES);
    for format in ["kubernetes", "systemd", "crontab"] {
        let text = refused(&workspace(&url), &["export", format]);
        assert!(text.contains("schema"), "{text}");
    }

    // A ConfigMap has the comments, too.
    let told = |schedules: &str| {
        let text = refused(&workspace(schedules), &["export", "kubernetes"]);
        assert!(!text.contains("S3cret"), "{text}");
        text
    };
    let comment = told(&format!("{SCHEDULES}# was: postgres://u:S3cret@h/d\n"));
    assert!(comment.contains("in `the comment in line "), "{comment}");

    for (option, name) in [
        ("--namespace", "a b\""),
        ("--namespace", "Prod"),
        ("--namespace", "a.b"),
        ("--namespace", "a-"),
        ("--secret", "a/b"),
    ] {
        let text = refused(
            &workspace(SCHEDULES),
            &["export", "kubernetes", option, name],
        );
        assert!(text.contains("Kubernetes has no such name"), "{text}");
    }
    workspace(SCHEDULES)
        .run([
            "export",
            "kubernetes",
            "--namespace",
            "prod-1",
            "--secret",
            "a.b-1",
        ])
        .expect(0);

    let open =
        workspace(&SCHEDULES.replace("${DATABASE_URL}", "postgres://app:geheim@db.example/app"));
    let text = refused(&open, &["export", "kubernetes"]);
    assert!(text.contains("schedules.yaml holds a password"), "{text}");
    assert!(text.contains("`targets.app.url`"), "{text}");
    assert!(!text.contains("geheim"), "{text}");
    // The same for the default of a variable, also of one that is set, and for addresses.
    for (url, more, key) in [
        (
            "${DATABASE_URL:-postgres://app:geheim@db/app}",
            "",
            "targets.app.url",
        ),
        (
            "${DATABASE_URL}",
            "notify: { on: [failed], webhook: { url: \"https://hooks.example/T0/geheim\" } }\n",
            "notify.webhook.url",
        ),
        (
            "${DATABASE_URL}",
            "notify: { on: [failed], ping: { url: \"${PING:-https://hc.example/geheim}\" } }\n",
            "notify.ping.url",
        ),
    ] {
        let open = workspace(&format!(
            "{}{more}",
            SCHEDULES.replace("${DATABASE_URL}", url)
        ));
        let text = refused(&open, &["export", "kubernetes"]);
        assert!(text.contains(&format!("`{key}`")), "{text}");
        assert!(!text.contains("geheim"), "{text}");
    }

    let last_day = workspace(&SCHEDULES.replace("15 4 1,15 jan,apr * ", "0 3 L * *"));
    let text = refused(&last_day, &["export", "kubernetes"]);
    assert!(
        text.contains("schedule `quarter`: `0 3 L * *` cannot be said to Kubernetes: `L` is not known there; use `--mode due` or `--mode serve`"),
        "{text}"
    );
    // What cron has no words for systemd has none for either: neither sends to the other.
    for day in ["* * MON#2", "15W * *", "* * 5L"] {
        let odd = workspace(&SCHEDULES.replace("15 4 1,15 jan,apr * ", &format!("0 3 {day}")));
        for to in ["crontab", "systemd"] {
            let text = refused(&odd, &["export", to]);
            assert!(text.contains("use `maint serve`"), "{text}");
            assert!(!text.contains("or systemd"), "{text}");
        }
    }
}

/// Files that the configuration names and no pod has are named, in every mode.
#[test]
fn files_that_no_pod_has_are_told() {
    let schedules = SCHEDULES.replace("${DATABASE_URL}", "file:url.txt");
    let schedules = format!("{schedules}notify: {{ on: [failed], file: told.jsonl }}\n");
    let told = workspace(&schedules).task(
        "statistics",
        "kind: analyze\ntarget: app\ncommands: { before: { run: [/usr/local/bin/drain, now] } }\n",
    );
    told.file("url.txt", "postgres://app@db.example/app");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(told.path().join("url.txt"), mode).unwrap();
    for mode in ["cronjobs", "due", "serve"] {
        let notes = told
            .run(["export", "kubernetes", "--mode", mode])
            .expect(0)
            .stderr;
        for (key, file) in [
            ("`targets.app.url` in schedules.yaml", "url.txt"),
            ("`notify.file` in schedules.yaml", "told.jsonl"),
            (
                "`commands.before.run` in tasks/statistics.yaml",
                "/usr/local/bin/drain",
            ),
        ] {
            let told = notes
                .lines()
                .any(|line| line.contains(key) && line.contains(file));
            assert!(told, "{mode}, {key}: {notes}");
        }
    }
    let kept = SCHEDULES.to_owned() + "notify: { on: [failed], file: /var/lib/maint/told.jsonl }\n";
    let notes = workspace(&kept)
        .run(["export", "kubernetes"])
        .expect(0)
        .stderr;
    assert!(!notes.contains("no pod"), "{notes}");
}

#[test]
fn timers_fire_when_maint_would() {
    let workspace = workspace(&SCHEDULES.replace("15 4 1,15 jan,apr * ", "0 3 L * *"));
    let out = workspace.path().join("units");
    workspace
        .command(["export", "systemd", "--out", out.to_str().unwrap()])
        .assert()
        .success();
    let next = workspace
        .command(["next", "--output", "json"])
        .output()
        .unwrap();
    let next: serde_json::Value = serde_json::from_slice(&next.stdout).unwrap();
    for (unit, schedule) in [
        ("maint-nightly-work", "nightly_work"),
        ("maint-weekend", "weekend"),
        ("maint-quarter", "quarter"),
    ] {
        let timer = std::fs::read_to_string(out.join(format!("{unit}.timer"))).unwrap();
        let calendar = timer
            .lines()
            .find_map(|line| line.strip_prefix("OnCalendar="))
            .unwrap();
        let told = Command::new("systemd-analyze")
            .args(["calendar", calendar])
            .env("TZ", "UTC")
            .output()
            .expect("systemd-analyze is there: ./scripts/test installs it");
        let told = String::from_utf8(told.stdout).unwrap();
        let elapse = told
            .lines()
            .find_map(|line| {
                line.trim()
                    .strip_prefix("Next elapse: ")
                    .or(line.trim().strip_prefix("(in UTC): "))
            })
            .unwrap_or_else(|| panic!("{calendar}: {told}"));
        let ours = next["next"]
            .as_array()
            .unwrap()
            .iter()
            .find(|one| one["schedule"] == schedule)
            .unwrap()["at"]
            .as_str()
            .unwrap()
            .replace('T', " ");
        assert!(elapse.contains(&ours[..16]), "{schedule}: {told} {ours}");
    }
    let service = std::fs::read_to_string(out.join("maint-nightly-work.service")).unwrap();
    assert!(
        service.contains(" run --due --schedule nightly_work\n"),
        "{service}"
    );
}

#[test]
fn a_crontab_says_the_zone_and_the_last_day() {
    let workspace = workspace(&SCHEDULES.replace("15 4 1,15 jan,apr * ", "0 3 L * *"));
    let output = workspace.command(["export", "crontab"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("CRON_TZ=America/New_York\n0,30 1,2,3 * * 0,6 /usr/local/bin/maint"),
        "{text}"
    );
    assert!(
        text.contains(" run --due --schedule nightly_work\n"),
        "{text}"
    );
    assert!(
        text.contains(
            "0 3 28-31 * * [ \"$(TZ=Europe/Berlin date -d 'tomorrow 12:00' +\\%d)\" = 01 ] && /usr/local/bin/maint"
        ),
        "{text}"
    );
    let notes = String::from_utf8(output.stderr).unwrap();
    // What a line runs keeps it itself.
    assert!(!notes.contains("jitter"), "{notes}");
    // What the lines need, cron does not have.
    assert!(
        notes.contains("cron knows no variables of yours: DATABASE_URL must be set")
            && notes.contains("what has a default in the files may be set there, too: HISTORY"),
        "{notes}"
    );
    assert!(text.contains("# DATABASE_URL\n"), "{text}");
}

/// Wherever the machine is, the line for the last day of the month runs on that day of the zone
/// that the schedule is in, and on no other.
#[test]
fn the_last_day_is_that_of_the_zone() {
    for (zone, cron, last, others) in [
        (
            "America/New_York",
            "30 23 L * *",
            "2026-12-01 04:30",
            ["2026-11-30 04:30", "2026-12-02 04:30"],
        ),
        (
            "Europe/Berlin",
            "0 1 L * *",
            "2026-07-30 23:00",
            ["2026-07-29 23:00", "2026-07-31 23:00"],
        ),
        (
            "Pacific/Auckland",
            "0 9 L * *",
            "2027-02-27 20:00",
            ["2027-02-26 20:00", "2027-02-28 20:00"],
        ),
        // The day after has no such time.
        (
            "America/Asuncion",
            "30 0 L 9 *",
            "2023-09-30 04:30",
            ["2023-09-29 04:30", "2023-10-01 04:30"],
        ),
    ] {
        let schedules = format!(
            "timezone: {zone}\ntargets: {{ app: {{ engine: postgres, url: \"postgres://h/d\" }} }}\nschedules:\n  month: {{ cron: \"{cron}\", tasks: [analyze] }}\n"
        );
        let workspace = Workspace::new(&schedules).task("analyze", "kind: analyze\ntarget: app\n");
        let text = workspace.run(["export", "crontab"]).expect(0).stdout;
        let line = text.lines().find(|line| line.contains(" && ")).unwrap();
        let (_, condition) = line.split_once(" [ ").unwrap();
        let (condition, _) = condition.split_once(" && ").unwrap();
        // As cron hands it to the shell.
        let condition = format!("[ {}", condition.replace("\\%", "%"));
        let holds = |at: &str| {
            let mut shell = std::process::Command::new("/usr/bin/faketime");
            shell
                .args([at, "/bin/sh", "-c", &condition])
                .env("TZ", "UTC");
            shell.status().unwrap().success()
        };
        assert!(holds(last), "{zone}: {condition}");
        for other in others {
            assert!(!holds(other), "{zone}: {condition} at {other}");
        }
    }
}

/// A time that the clocks jump over is told where the other scheduler leaves it out.
#[test]
fn a_night_that_has_no_such_time_is_told() {
    let workspace = workspace(SCHEDULES);
    let said = |args: &[&str]| {
        let output = workspace.command(args).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let systemd = said(&["export", "systemd"]);
    assert!(
        systemd.contains("the clocks of Europe/Berlin jump from 02:00 to 03:00, and systemd leaves out 02:00; `maint serve` has it at 03:00"),
        "{systemd}"
    );
    // This one comes again at once.
    assert!(!systemd.contains("America/New_York"), "{systemd}");
    assert!(
        said(&["export", "kubernetes"]).contains("and Kubernetes leaves out 02:00"),
        "{systemd}"
    );
    for args in [
        ["export", "kubernetes", "--mode", "serve"].as_slice(),
        &["export", "crontab"],
    ] {
        assert!(!said(args).contains("leaves out"), "{args:?}");
    }
}

/// The base for kustomize is what this version writes for the configuration of the package.
#[test]
fn the_base_for_kustomize_is_this_export() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = tempfile::tempdir().unwrap();
    let exported = crate::support::workspace::maint()
        .current_dir(root)
        .args([
            "--config",
            "deploy/debian/schedules.yaml",
            "export",
            "kubernetes",
        ])
        .args(["--mode", "serve", "--out", out.path().to_str().unwrap()])
        .output()
        .unwrap();
    assert!(exported.status.success(), "{exported:?}");
    let mut files: Vec<(String, String)> = std::fs::read_dir(out.path())
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            (name, std::fs::read_to_string(entry.path()).unwrap())
        })
        .collect();
    files.sort();
    let resources: String = files
        .iter()
        .map(|(name, _)| format!("- {name}\n"))
        .collect();
    files.push((
        "kustomization.yaml".to_owned(),
        format!(
            "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n{resources}"
        ),
    ));
    let base = root.join("deploy/kubernetes");
    for (name, text) in files {
        let path = base.join(&name);
        if std::env::var_os("MAINT_UPDATE_EXPECTED").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        assert!(
            std::fs::read_to_string(&path).unwrap_or_default() == text,
            "{} is out of date: write it anew with MAINT_UPDATE_EXPECTED=1",
            path.display()
        );
    }
}

/// What Helm makes of the chart, as JSON documents by kind.
fn rendered(values: &str) -> Result<std::collections::BTreeMap<String, serde_json::Value>, String> {
    let tools = std::env::var("MAINT_TEST_TOOLS").expect(
        "MAINT_TEST_TOOLS names the folder of the Python tools: run ./scripts/test, or export MAINT_TEST_TOOLS=$(./scripts/tools)",
    );
    let helm = std::path::Path::new(&tools).with_file_name("helm");
    let made = Command::new(helm.join("bin/python"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["tests/it/helm.py", values])
        .output()
        .unwrap();
    if !made.status.success() {
        return Err(String::from_utf8(made.stderr).unwrap());
    }
    Ok(by_kind(&tools, &String::from_utf8(made.stdout).unwrap()))
}

/// Documents of YAML by their kind; every one is of another.
pub(crate) fn by_kind(
    tools: &str,
    yaml: &str,
) -> std::collections::BTreeMap<String, serde_json::Value> {
    const READ: &str = "import json, sys, yaml
print(json.dumps([d for d in yaml.safe_load_all(open(sys.argv[1])) if d]))";
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), yaml).unwrap();
    let read = Command::new(format!("{tools}/bin/python"))
        .args(["-c", READ])
        .arg(file.path())
        .output()
        .unwrap();
    assert!(read.status.success(), "{read:?}\n{yaml}");
    let documents: Vec<serde_json::Value> = serde_json::from_slice(&read.stdout).unwrap();
    documents
        .into_iter()
        .map(|document| (document["kind"].as_str().unwrap().to_owned(), document))
        .collect()
}

/// The chart, as Helm itself renders it, is what the export writes; each of its values does what it says.
#[test]
fn the_chart_renders_to_this_export() {
    let tools = std::env::var("MAINT_TEST_TOOLS").unwrap();
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let base = root.join("deploy/kubernetes");
    let mut written = String::new();
    for entry in std::fs::read_dir(&base).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name.starts_with("maint-") {
            written += &format!("---\n{}", std::fs::read_to_string(&path).unwrap());
        }
    }
    let plain = rendered("{}").unwrap();
    assert_eq!(plain, by_kind(&tools, &written));
    let monitor = std::fs::read_to_string(base.join("servicemonitor.yaml")).unwrap();
    let other = rendered(
        r#"{"serviceMonitor": {"enabled": true}, "networkPolicy": {"egressPorts": [27017]}, "image": "r/maint:1", "secret": "maint",
            "files": {"tasks/reindex.yaml": null, "tasks/Own.yaml": "kind: analyze\ntarget: app\n"}, "persistence": {"size": "5Gi"}}"#,
    )
    .unwrap();
    assert_eq!(
        other["ServiceMonitor"],
        by_kind(&tools, &monitor)["ServiceMonitor"]
    );
    // A key that the Secret has not would have the operator refuse the endpoint.
    let open =
        rendered(r#"{"serviceMonitor": {"enabled": true, "token": false}, "secret": "maint"}"#)
            .unwrap();
    let endpoint = &open["ServiceMonitor"]["spec"]["endpoints"][0];
    assert_eq!(endpoint["path"], "/metrics");
    assert!(endpoint.get("authorization").is_none(), "{endpoint:#}");
    assert_eq!(
        other["NetworkPolicy"]["spec"]["egress"][0]["ports"][2]["port"],
        27017
    );
    assert_eq!(
        other["PersistentVolumeClaim"]["spec"]["resources"]["requests"]["storage"],
        "5Gi"
    );
    let pod = &other["Deployment"]["spec"]["template"]["spec"];
    assert_eq!(pod["containers"][0]["image"], "r/maint:1");
    let data = other["ConfigMap"]["data"].as_object().unwrap();
    assert!(!data.contains_key("tasks-reindex-yaml") && data.contains_key("tasks-own-yaml"));
    let items = pod["volumes"][0]["configMap"]["items"].as_array().unwrap();
    assert!(
        items
            .iter()
            .any(|item| item["path"] == "tasks/Own.yaml" && item["key"] == "tasks-own-yaml")
    );
    let history = r##""schedules.yaml": "# sqlite:x until 2025\nhistory: ${HISTORY_URL}\n""##;
    let many = rendered(&format!(r#"{{"files": {{{history}}}, "replicas": 2, "persistence": {{"enabled": false}}, "networkPolicy": {{"enabled": false}}, "secret": "s", "terminationGracePeriodSeconds": 70}}"#)).unwrap();
    assert!(!many.contains_key("NetworkPolicy") && !many.contains_key("PersistentVolumeClaim"));
    let deployment = &many["Deployment"]["spec"];
    assert_eq!(deployment["replicas"], 2);
    assert_eq!(deployment["strategy"]["type"], "RollingUpdate");
    let pod = &deployment["template"]["spec"];
    assert_eq!(pod["terminationGracePeriodSeconds"], 70);
    assert_eq!(pod["containers"][0]["envFrom"][0]["secretRef"]["name"], "s");
    let refused = rendered(r#"{"replicas": 2}"#).unwrap_err();
    assert!(
        refused.contains("more than one replica needs a history in PostgreSQL"),
        "{refused}"
    );
    // On the disk of a pod that has no volume.
    for files in [
        r#""tasks/own.yaml": null"#.to_owned(),
        format!(
            r#"{history}, "tasks/old.yaml": "destination: {{ files: \"file:///var/lib/maint/old\" }}\n""#
        ),
    ] {
        let values = format!(r#"{{"files": {{{files}}}, "persistence": {{"enabled": false}}}}"#);
        let refused = rendered(&values).unwrap_err();
        assert!(refused.contains("would be lost with each pod"), "{refused}");
    }
    let refused = rendered(r#"{"files": {"a/b.yaml": "x", "a-b.yaml": "y"}}"#).unwrap_err();
    assert!(refused.contains("would be one file"), "{refused}");
    let folder = tempfile::tempdir().unwrap();
    for (n, documents) in [plain, many].iter().enumerate() {
        for (kind, document) in documents {
            let file = folder.path().join(format!("{n}-{kind}.yaml"));
            std::fs::write(&file, document.to_string()).unwrap();
        }
    }
    for version in KUBERNETES {
        let files = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let verdict = Command::new(format!("{tools}/bin/kubernetes-validate"))
            .args(["--strict", "-k", version])
            .args(files)
            .output()
            .unwrap();
        assert!(verdict.status.success(), "{version}: {verdict:?}");
    }
    let chart = std::fs::read_to_string(root.join("deploy/helm/Chart.yaml")).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    assert!(
        chart.contains(&format!("version: {version}\nappVersion: {version}\n")),
        "{chart}"
    );
}

/// Every schedule and report of the files, as a machine of the cluster would call it: the manifest's
/// own command, in the folders and with the variables that the manifest names, leaves what
/// `maint serve` would leave.
#[tokio::test]
async fn a_cron_job_leaves_the_trail_of_a_daemon() {
    let db = crate::support::servers::fresh_database(17).await;
    db.execute("CREATE TABLE t (id int); INSERT INTO t SELECT generate_series(1, 5000)")
        .await;
    let cluster = Workspace::new(
        "timezone: UTC\nhistory: \"${HISTORY_URL}\"\ntargets:\n  app: { engine: postgres, url: \"${DATABASE_URL}\" }\n\
         schedules:\n  often: { cron: \"* * * * *\", tasks: [statistics] }\n  rare: { cron: \"0 0 1 1 *\", tasks: [statistics] }\n\
         smtp: { url: \"${SMTP_URL}\", from: maint@example.com }\n\
         reports:\n  weekly: { cron: \"* * * * *\", period: 7d, email: { to: [dba@example.com] } }\n",
    )
    .task("statistics", "kind: analyze\ntarget: app\n")
    .env("DATABASE_URL", &db.url)
    .env("HISTORY_URL", &db.url)
    // Nobody listens there: the letter stays, and that is told.
    .env("SMTP_URL", "smtp://127.0.0.1:1?tls=none&timeout=2s");
    let out = cluster.path().join("manifests");
    let exported = cluster
        .run(["export", "kubernetes", "--out", out.to_str().unwrap()])
        .expect(0);
    for name in ["DATABASE_URL", "HISTORY_URL", "SMTP_URL"] {
        assert!(
            exported.stderr.contains(&format!("--from-literal={name}=")),
            "{exported:#?}"
        );
    }
    let args = |file: &str| -> Vec<String> {
        let text = std::fs::read_to_string(out.join(file)).unwrap();
        let from = text
            .split("args:\n")
            .nth(1)
            .unwrap_or_else(|| panic!("{text}"));
        from.lines()
            .map(str::trim)
            .map_while(|line| line.strip_prefix("- "))
            .map(|word| word.trim_matches(['\'', '"']).to_owned())
            .collect()
    };
    let often = args("maint-often-cronjob.yaml");
    assert_eq!(
        often,
        ["run", "--due", "--not-started-ok", "--schedule", "often"]
    );
    // The first call is no less than the others: it is what the schedule is due for.
    cluster.run(&often).expect(0);
    let runs = cluster
        .run(["history", "--output", "json"])
        .expect(0)
        .json();
    // Two where the next minute began meanwhile.
    assert!(
        (1..3).contains(&runs["runs"].as_array().unwrap().len()),
        "{runs:#}"
    );
    assert_eq!(runs["runs"][0]["trigger"], "schedule");
    assert_eq!(runs["runs"][0]["status"], "succeeded");
    assert!(runs["runs"][0]["scheduled_for"].is_string(), "{runs:#}");
    // A pod of another schedule, called out of its time, touches nothing of this one.
    let count = "SELECT count(*) FROM maint.occurrences";
    let before = db.number(count).await;
    cluster.run(args("maint-rare-cronjob.yaml")).expect(0);
    assert_eq!(db.number(count).await, before);
    // An hour without the cluster: what was missed is recorded, the newest one runs.
    db.execute("UPDATE maint.schedules SET known_since = now() - interval '1 hour' WHERE name = 'often'; DELETE FROM maint.occurrences")
        .await;
    // Its run is in the history already, where the minute is the same.
    let again = cluster.run(&often);
    assert!([0, 4].contains(&again.code), "{again:#?}");
    let next = cluster
        .run(["next", "--output", "json", "--missed", "100"])
        .expect(0)
        .json();
    assert!(next["missed"].as_array().unwrap().len() > 50, "{next:#}");
    // The weekly mail is a job of its own.
    let report = args("maint-report-weekly-cronjob.yaml");
    assert_eq!(
        report,
        [
            "run",
            "--due",
            "--not-started-ok",
            "--schedule",
            "report:weekly"
        ]
    );
    let mailed = cluster.run(&report);
    assert!(mailed.stderr.contains("127.0.0.1:1"), "{mailed:#?}");
    // Two where the next minute began meanwhile.
    let letters = db
        .number("SELECT count(*) FROM maint.letters WHERE channel = 'email'")
        .await;
    assert!((1..3).contains(&letters), "{letters}");
    // The other exports say the same.
    let crontab = cluster.run(["export", "crontab"]).expect(0).stdout;
    assert!(
        crontab.contains("run --due --schedule often\n"),
        "{crontab}"
    );
    assert!(
        crontab.contains("run --due --schedule report:weekly\n"),
        "{crontab}"
    );
    cluster
        .run(["run", "--due", "--schedule", "nope"])
        .expect(2);
    cluster.run(["run", "--schedule", "often"]).expect(2);
}

/// What the process may do is little: systemd's own tool counts it.
#[test]
fn exported_units_are_locked_up() {
    let workspace = workspace(&SCHEDULES.replace("15 4 1,15 jan,apr * ", "0 3 L * *"));
    let out = workspace.path().join("units");
    let args = ["export", "systemd", "--out", out.to_str().unwrap()];
    workspace.command(args).assert().success();
    let told = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--threshold=15", "--no-pager"])
        .arg(out.join("maint-nightly-work.service"))
        .output()
        .expect("systemd-analyze is there: ./scripts/test installs it");
    let text = String::from_utf8_lossy(&told.stdout);
    assert!(
        told.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&told.stderr)
    );
}

/// What the hardening would forbid is allowed: each place that a schedule writes to, as the program
/// resolves it.
#[test]
fn units_may_write_where_maint_writes() {
    let yaml = SCHEDULES
        .replace(
            "${HISTORY:-sqlite:/var/lib/maint/maint.db}",
            "sqlite:state/maint.db",
        )
        .replace("tasks: [statistics, rows-2]", "tasks: [statistics, old]")
        + "notify: { file: told/news.json }\n";
    let archive = "kind: archive\ntarget: app\noptions:\n  table: public.t\n  column: at\n  \
                   older_than: 90d\n  destination: { files: \"file:///srv/archive/t\" }\n";
    let workspace = workspace(&yaml).task("old", archive);
    let folder = workspace.path().canonicalize().unwrap();
    let folder = folder.to_str().unwrap();
    for config in ["schedules.yaml", "./tasks/../schedules.yaml"] {
        let mut command = workspace.command(["--config", config, "export", "systemd"]);
        let said = command.current_dir(folder).output().unwrap();
        assert!(said.status.success(), "{said:?}");
        let text = String::from_utf8(said.stdout).unwrap();
        let units: Vec<&str> = text.split("\n# maint-").collect();
        let unit = |name: &str| {
            let begin = format!("{name}.service");
            units
                .iter()
                .find(|unit| unit.trim_start_matches("# maint-").starts_with(&begin))
                .unwrap_or_else(|| panic!("{text}"))
                .to_owned()
        };
        let writes = |unit: &str| -> Vec<String> {
            let lines = unit.lines();
            let found = lines.filter_map(|line| line.strip_prefix("ReadWritePaths="));
            found.map(str::to_owned).collect()
        };
        let (state, told) = (format!("{folder}/state"), format!("{folder}/told"));
        assert_eq!(
            writes(unit("nightly-work")),
            ["/srv/archive/t".to_owned(), state.clone(), told.clone()],
            "{config}"
        );
        assert_eq!(writes(unit("weekend")), [state, told]);
        assert!(
            text.contains(&format!("--config {folder}/schedules.yaml ")),
            "{text}"
        );
        // The workspace is in a folder that would be another one to the service.
        let own = if folder.starts_with("/tmp") {
            "PrivateTmp=no"
        } else {
            "PrivateTmp=yes"
        };
        assert!(text.contains(own), "{text}");
    }
}

/// What the configuration reads is not hidden from the process: a guard that nobody can reach is off.
#[test]
fn units_see_what_the_configuration_reads() {
    let home = |task: &str| {
        let workspace = workspace(SCHEDULES).task("statistics", task);
        let units = workspace.run(["export", "systemd"]).expect(0).stdout;
        let lines = units
            .lines()
            .filter(|line| line.starts_with("ProtectHome="));
        let mut all: Vec<String> = lines.map(str::to_owned).collect();
        all.dedup();
        all
    };
    assert_eq!(home("kind: analyze\ntarget: app\n"), ["ProtectHome=yes"]);
    for more in [
        "throttle: { pause_file: /home/ann/pause }\n",
        "commands: { before: { run: [/home/ann/drain] } }\n",
    ] {
        let task = format!("kind: analyze\ntarget: app\n{more}");
        assert_eq!(home(&task), ["ProtectHome=read-only"], "{more}");
    }
}

/// Whoever may write where the configuration is says what the next run does.
#[test]
fn no_unit_may_write_to_its_configuration() {
    let yaml = SCHEDULES.replace(
        "${HISTORY:-sqlite:/var/lib/maint/maint.db}",
        "postgres://maint@127.0.0.1:1/maint?sslmode=disable",
    );
    let said = workspace(&yaml).run(["export", "systemd"]).expect(0);
    assert!(!said.stdout.contains("ReadWritePaths="), "{said:#?}");
    assert!(said.stdout.contains("StateDirectory=maint"), "{said:#?}");
}

/// Every occurrence of a year, as systemd's own tool sees it.
#[test]
fn timers_mean_what_maint_means_for_every_expression() {
    for cron in [
        "0 0 * * 0-7",
        "0 1 1 * 0-7",
        "0 0 * * MON-7",
        "30 1 3 * */2",
        "0 1 */2 * 1",
        "0 3 L * *",
        "0 1 ? 2 5-7",
    ] {
        let schedules = format!(
            "timezone: UTC\nhistory: sqlite:/var/lib/maint/maint.db\ntargets:\n  app: {{ engine: postgres, url: \"${{DATABASE_URL}}\" }}\n\
             schedules:\n  s: {{ cron: \"{cron}\", tasks: [statistics] }}\n"
        );
        let workspace = workspace(&schedules);
        let next = workspace
            .run(["next", "--count", "60", "--output", "json"])
            .expect(0)
            .json();
        let ours: Vec<String> = next["next"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["at"].as_str().unwrap()[..16].replace('T', " "))
            .collect();
        let out = workspace.path().join("units");
        workspace
            .run(["export", "systemd", "--out", out.to_str().unwrap()])
            .expect(0);
        let timer = std::fs::read_to_string(out.join("maint-s.timer")).unwrap();
        let mut theirs = std::collections::BTreeSet::new();
        for calendar in timer
            .lines()
            .filter_map(|line| line.strip_prefix("OnCalendar="))
        {
            let told = Command::new("systemd-analyze")
                .args(["calendar", "--iterations=60", calendar])
                .env("TZ", "UTC")
                .output()
                .expect("systemd-analyze is there: ./scripts/test installs it");
            for line in String::from_utf8(told.stdout).unwrap().lines() {
                // `Iteration #2: Sun 2026-11-29 00:00:00 UTC`
                let Some(at) = line.find("-").filter(|_| line.contains(" UTC")) else {
                    continue;
                };
                let Some(date) = at.checked_sub(4).and_then(|from| line.get(from..from + 16))
                else {
                    continue;
                };
                theirs.insert(date.to_owned());
            }
        }
        let theirs: Vec<String> = theirs.into_iter().take(ours.len()).collect();
        assert_eq!(theirs, ours, "{cron}\n{timer}");
    }
}

/// A schedule that comes after another waits for it wherever it is started: nobody is sent elsewhere for that.
#[test]
fn what_comes_after_another_needs_no_note() {
    let workspace = Workspace::new(
        "history: \"${HISTORY}\"\ntargets: { app: { engine: postgres, url: \"${DATABASE_URL}\" } }\n\
         schedules:\n  one: { cron: \"0 1 * * *\", tasks: [a] }\n  two: { cron: \"0 2 * * *\", tasks: [b], after: [one] }\n",
    )
    .task("a", "kind: analyze\ntarget: app\n")
    .task("b", "kind: vacuum\ntarget: app\n")
    .env("HISTORY", "postgres://127.0.0.1:1/h")
    .env("DATABASE_URL", "postgres://127.0.0.1:1/d");
    for form in ["crontab", "systemd", "kubernetes"] {
        let said = workspace.run(["export", form]).expect(0);
        assert!(
            said.stdout.contains("--schedule two") || said.stdout.contains("two"),
            "{said:?}"
        );
        assert!(!said.stderr.contains("after"), "{form}: {}", said.stderr);
    }
}
