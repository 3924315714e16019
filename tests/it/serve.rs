//! `maint serve` and `maint run --due` as processes.

mod clocks;
mod ended;
mod flood;
mod guarded;
mod listed;
mod measured;
mod systemd;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use maint::history::open;
use maint::scheduler::definitions;

use crate::support::patience::Patience;
use crate::support::servers::fresh_database;
use crate::support::workspace::Workspace;

struct Served {
    process: Child,
    port: u16,
}

impl Served {
    fn start(workspace: &Workspace, config: &Path) -> Served {
        Self::start_with(workspace, config, |process| process)
    }

    /// As a process that may be changed before it starts.
    fn start_with(
        workspace: &Workspace,
        config: &Path,
        change: impl FnOnce(Command) -> Command,
    ) -> Served {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let process = workspace.process([
            "serve",
            "--listen",
            &format!("127.0.0.1:{port}"),
            "--config",
            config.to_str().unwrap(),
        ]);
        let process = change(process)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let served = Served { process, port };
        wait_until("it is ready", || served.get("/readyz").0 == 200);
        served
    }

    fn get(&self, path: &str) -> (u16, String) {
        let answer = self.ask("GET", path, &[], "");
        (answer.code, answer.body)
    }

    fn ask(&self, method: &str, path: &str, headers: &[&str], body: &str) -> Answer {
        let host = format!("127.0.0.1:{}", self.port);
        self.ask_for(&host, method, path, headers, body)
    }

    /// As somebody whose name was pointed at this machine.
    fn ask_as(&self, host: &str, path: &str) -> Answer {
        self.ask_for(host, "GET", path, &[], "")
    }

    fn ask_for(
        &self,
        host: &str,
        method: &str,
        path: &str,
        headers: &[&str],
        body: &str,
    ) -> Answer {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else {
            return Answer::default();
        };
        let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\
             {headers}\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        Answer {
            code: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head: head.to_ascii_lowercase(),
            body: body.to_owned(),
        }
    }

    fn metric(&self, name: &str) -> f64 {
        let (_, page) = self.get("/metrics");
        let line = page.lines().find_map(|line| line.strip_prefix(name));
        line.map_or(f64::NAN, |value| value.trim().parse().unwrap())
    }

    fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.process.id()).unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// Tells it to stop; how it ended and what it said.
    fn stop(mut self) -> (Option<i32>, String) {
        self.signal(nix::sys::signal::Signal::SIGTERM);
        let code = self.process.wait().unwrap().code();
        let mut said = String::new();
        let mut errors = self.process.stderr.take().unwrap();
        errors.read_to_string(&mut said).unwrap();
        (code, said)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[derive(Debug, Default)]
struct Answer {
    code: u16,
    /// In lower case.
    head: String,
    body: String,
}

fn wait_until(what: &str, reached: impl Fn() -> bool) {
    let began = Instant::now();
    while !reached() {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "waited in vain until {what}"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn schedules(target: &str, names: &[&str]) -> String {
    let mut yaml = format!(
        "history: sqlite:/var/tmp/none.db\ntargets:\n  app: {{ engine: postgres, url: \"{target}\" }}\nschedules:\n"
    );
    for name in names {
        yaml.push_str(&format!(
            "  {name}: {{ cron: \"0 0 * * *\", tasks: [analyze] }}\n"
        ));
    }
    yaml
}

const TASK: &str = "kind: analyze\ntarget: app\n";

/// As the kubelet mounts a ConfigMap: the files are links through `..data`,
/// which is a link that is renamed over.
#[test]
fn a_swapped_link_reloads_and_a_broken_one_changes_nothing() {
    let workspace = Workspace::new("targets: {}\n");
    let mount = workspace.path().join("mounted");
    std::fs::create_dir_all(mount.join("tasks")).unwrap();
    std::fs::write(mount.join("tasks/analyze.yaml"), TASK).unwrap();
    let history = format!("sqlite:{}", workspace.history().display());
    let swap = |version: &str, yaml: &str| {
        let folder = mount.join(format!("..{version}"));
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("schedules.yaml"), yaml).unwrap();
        let link = mount.join("..data_tmp");
        symlink(format!("..{version}"), &link).unwrap();
        std::fs::rename(&link, mount.join("..data")).unwrap();
    };
    let yaml = |names: &[&str]| {
        schedules("postgres://127.0.0.1:1/none", names).replace("sqlite:/var/tmp/none.db", &history)
    };
    swap("one", &yaml(&["first"]));
    symlink("..data/schedules.yaml", mount.join("schedules.yaml")).unwrap();
    let served = Served::start(&workspace, &mount.join("schedules.yaml"));
    let known = |name: &str| served.get("/next").1.contains(name);
    assert!(known("first") && !known("second"));

    swap("two", &yaml(&["first", "second"]));
    wait_until("the new one is taken", || {
        served.metric("maint_configuration_reloads_total{outcome=\"taken\"}") == 1.0
    });
    assert!(known("second"));

    swap("three", "schedules: { broken: { cron: nonsense } }\n");
    wait_until("the broken one is refused", || {
        served.metric("maint_configuration_reloads_total{outcome=\"refused\"}") == 1.0
    });
    assert!(known("second"), "the old one goes on");
    assert_eq!(served.get("/healthz").0, 200);

    swap("four", &yaml(&["third"]));
    served.signal(nix::sys::signal::Signal::SIGHUP);
    wait_until("the next one is taken", || known("third"));
    let (code, said) = served.stop();
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("the changed configuration is refused"),
        "{said}"
    );
}

/// Two processes with the same files say it once, with a command that there is.
#[test]
fn a_refused_configuration_is_told_once() {
    let workspace = Workspace::new("").task("analyze", TASK);
    let history = format!("sqlite:{}", workspace.history().display());
    let yaml = schedules("postgres://127.0.0.1:1/none", &["daily"])
        .replace("sqlite:/var/tmp/none.db", &history);
    let notify = "notify: { on: [failed], file: told.jsonl, group_wait: 10s }\n";
    workspace.file("schedules.yaml", &format!("{yaml}{notify}"));
    let file = workspace.path().join("schedules.yaml");
    let both = [(); 2].map(|()| Served::start(&workspace, &file));
    workspace.file("schedules.yaml", &format!("{yaml}{notify}bad: [\n"));
    for served in &both {
        wait_until("it is refused", || {
            served.metric("maint_configuration_reloads_total{outcome=\"refused\"}") == 1.0
        });
    }
    let told = || std::fs::read_to_string(workspace.path().join("told.jsonl")).unwrap_or_default();
    wait_until("it is told", || !told().is_empty());
    for served in both {
        assert_eq!(served.stop().0, Some(0));
    }
    let told = told();
    assert_eq!(told.lines().count(), 1, "{told}");
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let digest = &told["digest"];
    let headline = digest["headline"].as_str().unwrap();
    assert!(
        headline.starts_with("the changed configuration was refused on "),
        "{told:#}"
    );
    let group = &digest["groups"][0];
    assert_eq!(
        (&group["count"], &group["command"]),
        (&1.into(), &"maint check".into()),
        "{told:#}"
    );
    assert!(
        group["lines"][0]["text"]
            .as_str()
            .unwrap()
            .contains("schedules.yaml:"),
        "{told:#}"
    );
}

#[tokio::test]
async fn what_was_missed_is_made_up_for_once_and_prometheus_reads_it() {
    let db = fresh_database(17).await;
    db.execute("CREATE TABLE t (id int); INSERT INTO t SELECT generate_series(1, 5000)")
        .await;
    let workspace = Workspace::new("targets: {}\n").task("analyze", TASK);
    let history = format!("sqlite:{}", workspace.history().display());
    workspace.file(
        "schedules.yaml",
        &schedules(&db.url, &["daily"]).replace("sqlite:/var/tmp/none.db", &history),
    );
    // The first call only takes the schedules up.
    let first = workspace.run(["run", "--due"]).expect(0);
    assert_eq!(first.stdout, "nothing is due\n");
    // As if it had been known for three days.
    workspace.known_since(Utc::now() - TimeDelta::days(3)).await;

    let due = workspace
        .run(["run", "--due", "--output", "json"])
        .expect(0)
        .json();
    let statuses: Vec<&str> = due["occurrences"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["status"].as_str().unwrap())
        .collect();
    assert_eq!(statuses, ["missed", "missed", "caught_up"], "{due:#}");
    assert_eq!(due["runs"][0]["trigger"], "catch_up");
    assert_eq!(due["runs"][0]["status"], "succeeded");
    let again = workspace.run(["run", "--due"]).expect(0);
    assert_eq!(again.stdout, "nothing is due\n");
    let plain = workspace.run(["run", "analyze"]).expect(0);
    assert!(plain.stderr.contains("ran already"), "{plain:#?}");
    let next = workspace.run(["next", "--output", "json"]).expect(0).json();
    assert_eq!(next["missed"].as_array().unwrap().len(), 2);
    assert_eq!(next["next"][0]["schedule"], "daily");

    workspace.run(["pause", "nightly"]).expect(2);
    let named = workspace
        .run(["run", "analyze", "--schedule", "daily"])
        .expect(2);
    assert!(
        named.stderr.contains("`--schedule` is for `--due`"),
        "{named:#?}"
    );
    let nothing = workspace.run(["pause", "daily", "--for", "0s"]).expect(2);
    assert!(
        nothing
            .stderr
            .contains("`--for 0s`: the pause would be over at"),
        "{nothing:#?}"
    );
    let next = workspace.run(["next"]).expect(0).stdout;
    assert!(!next.contains("paused"), "{next}");
    workspace.run(["pause", "daily", "--for", "2d"]).expect(0);
    let next = workspace.run(["next"]).expect(0).stdout;
    let until = (Utc::now() + TimeDelta::days(2))
        .format("%a %Y-%m-%d")
        .to_string();
    let (_, paused) = next.split_once("paused by ").expect(&next);
    assert!(
        paused.contains(&format!("until {until}")) && paused.contains("(analyze)"),
        "{next}"
    );
    workspace.run(["pause", "daily"]).expect(0);
    let next = workspace.run(["next"]).expect(0).stdout;
    assert!(
        next.contains("until `maint resume daily` (analyze)"),
        "{next}"
    );
    workspace.run(["resume", "daily"]).expect(0);
    let over = workspace.run(["cancel", "last"]).expect(4);
    assert!(over.stdout.contains("does not run any more"), "{over:#?}");

    let file = workspace.path().join("schedules.yaml");
    let served = Served::start(&workspace, &file);
    let (code, page) = served.get("/metrics");
    assert_eq!(code, 200);
    assert!(
        page.contains("maint_last_success_timestamp_seconds{task=\"analyze\",target=\"app\"}"),
        "{page}"
    );
    assert!(
        page.contains("maint_task_period_seconds{task=\"analyze\",target=\"app\"} 86400"),
        "{page}"
    );
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is installed: ./scripts/packages does that");
    let mut input = promtool.stdin.take().unwrap();
    input.write_all(page.as_bytes()).unwrap();
    drop(input);
    let checked = promtool.wait_with_output().unwrap();
    assert!(checked.status.success(), "{checked:?}\n{page}");
    assert_eq!(served.stop().0, Some(0));
}

#[test]
fn the_alert_rules_fire_when_they_should() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (what, file) in [
        ("check", "deploy/prometheus-rules.yaml"),
        ("test", "deploy/prometheus-rules.test.yaml"),
    ] {
        let done = Command::new("promtool")
            .args([what, "rules", file])
            .current_dir(root)
            .output()
            .expect("promtool is installed: ./scripts/packages does that");
        assert!(done.status.success(), "{done:?}");
    }
    // Every metric of the rules and of the dashboard is one that is there.
    let dashboard = std::fs::read_to_string(root.join("deploy/grafana-dashboard.json")).unwrap();
    let rules = std::fs::read_to_string(root.join("deploy/prometheus-rules.yaml")).unwrap();
    let source = ["metrics", "metrics/page", "measured"]
        .map(|file| std::fs::read_to_string(root.join(format!("src/web/{file}.rs"))).unwrap())
        .concat();
    let mut seen = 0;
    for text in [&dashboard, &rules] {
        for word in text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
            let Some(name) = word.strip_prefix("maint_") else {
                continue;
            };
            let name = ["_bucket", "_total", "_info", "_seconds", "_bytes"]
                .iter()
                .fold(name, |name, end| name.strip_suffix(end).unwrap_or(name));
            let known = [name, &word["maint_".len()..]]
                .iter()
                .any(|name| source.contains(&format!("\"{name}\"")));
            assert!(known, "there is no metric {word}");
            seen += 1;
        }
    }
    assert!(seen > 20, "{seen}");
}

/// What a call was for and did not do is told, and why.
#[tokio::test]
async fn what_is_due_and_skipped_is_told() {
    let db = fresh_database(17).await;
    let workspace = Workspace::new("targets: {}\n").task("analyze", TASK);
    let history = format!("sqlite:{}", workspace.history().display());
    let schedules = format!(
        "timezone: UTC\nhistory: {history}\ntargets:\n  app: {{ engine: postgres, url: \"{}\" }}\n\
         schedules:\n  often: {{ cron: \"* * * * *\", tasks: [analyze] }}\n",
        db.url
    );
    workspace.file("schedules.yaml", &schedules);
    workspace.file("tasks/analyze.yaml", &format!("{TASK}enabled: false\n"));
    let off = workspace
        .run(["run", "--due", "--schedule", "often"])
        .expect(0);
    assert!(
        off.stdout.starts_with("often of ") && off.stdout.contains(": skipped: there was nothing"),
        "{off:#?}"
    );
    workspace.file("tasks/analyze.yaml", TASK);
    workspace.run(["pause", "often", "--for", "2d"]).expect(0);
    let patience = Patience::until("the next minute to be due");
    loop {
        let paused = workspace
            .run(["run", "--due", "--schedule", "often"])
            .expect(0);
        if paused.stdout != "nothing is due\n" {
            assert!(
                paused.stdout.contains(": skipped: ") && paused.stdout.contains("paused"),
                "{paused:#?}"
            );
            break;
        }
        patience.pause().await;
    }
}

/// What is due and waits for its window is named, with when that opens: nothing else says why it did not run.
#[tokio::test]
async fn what_waits_for_its_window_is_named() {
    let db = fresh_database(17).await;
    let workspace = Workspace::new("targets: {}\n").task("analyze", TASK);
    let history = format!("sqlite:{}", workspace.history().display());
    let opens = Utc::now() + TimeDelta::hours(6);
    let window = format!(
        "{}-{}",
        opens.format("%H:00"),
        (opens + TimeDelta::hours(1)).format("%H:00")
    );
    workspace.file(
        "schedules.yaml",
        &format!(
            "timezone: UTC\nhistory: {history}\ntargets:\n  app: {{ engine: postgres, url: \"{}\" }}\nschedules:\n  hourly: {{ cron: \"* * * * *\", tasks: [analyze], window: \"{window}\", catch_up: 1d }}\n",
            db.url
        ),
    );
    workspace.run(["run", "--due"]).expect(0);
    let file = workspace.path().join("schedules.yaml");
    let config = maint::config::load(&file, &maint::kinds::catalog(), &|_| None).unwrap();
    let store = open(&history).await.unwrap();
    let known = definitions(&config);
    let changed: Vec<_> = known
        .iter()
        .map(|(name, _)| (name.clone(), "another".to_owned()))
        .collect();
    store.know_schedules(&changed, Utc::now()).await.unwrap();
    let since = Utc::now() - TimeDelta::minutes(2);
    store.know_schedules(&known, since).await.unwrap();
    store.close().await;
    let due = workspace.run(["run", "--due"]).expect(0);
    assert!(
        due.stdout
            .contains("hourly: due, and waits for its window, which opens at "),
        "{due:#?}"
    );
    let due = workspace
        .run(["run", "--due", "--output", "json"])
        .expect(0)
        .json();
    assert_eq!(due["runs"], serde_json::json!([]), "{due:#}");
    assert_eq!(due["waiting"][0]["schedule"], "hourly", "{due:#}");
}
