//! Pods of a cluster whose history is in PostgreSQL and goes away: acted out with the user, the
//! variables and the folders that the exported manifest gives them, and nothing else to write to.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use chrono::{TimeDelta, Utc};
use serde_json::Value;

use crate::export::by_kind;
use crate::support::patience::Patience;
use crate::support::servers::{TestDatabase, fresh_database};
use crate::support::wire::{Mode, Wire};
use crate::support::workspace::Workspace;

/// Tasks that wait for a lock which the test holds, and then have one more step.
const WORK: &str = "kind: sql\ntarget: app\nlimits: { lock_timeout: 1h }\noptions:\n  statements:\n    \
    - name: wait\n      sql: INSERT INTO public.t SELECT 1 FROM pg_catalog.pg_advisory_xact_lock(42)\n    \
    - name: later\n      sql: INSERT INTO public.t VALUES (2)\n";

struct Cluster {
    workspace: Workspace,
    target: TestDatabase,
    history: TestDatabase,
    wire: Wire,
}

/// What stands for the folders that a pod mounts, by their paths in the pod.
type Mounts = BTreeMap<String, PathBuf>;

impl Cluster {
    async fn new() -> Cluster {
        let (target, history) = (fresh_database(17).await, fresh_database(17).await);
        target.execute("CREATE TABLE t (id int)").await;
        let mut url = url::Url::parse(&history.url).unwrap();
        let wire = Wire::to(url.port().unwrap()).await;
        url.set_port(Some(wire.port)).unwrap();
        // Due two minutes ago, and not again before tomorrow.
        let cron = (Utc::now() - TimeDelta::minutes(2)).format("%-M %-H * * *");
        let schedule = |n: u32| format!("  s{n}: {{ cron: \"{cron}\", tasks: [work{n}] }}\n");
        let mut workspace = Workspace::new(&format!(
            "timezone: UTC\nhistory: \"${{HISTORY_URL}}\"\ntargets:\n  app: {{ engine: postgres, url: \"${{DATABASE_URL}}\" }}\n\
             schedules:\n{}{}{}",
            schedule(1), schedule(2), schedule(3)
        ))
        .env("DATABASE_URL", &target.url)
        .env("HISTORY_URL", url.as_str());
        for n in 1..=3 {
            workspace = workspace.task(&format!("work{n}"), WORK);
        }
        Cluster {
            workspace,
            target,
            history,
            wire,
        }
    }

    /// The container of a schedule's CronJob, its volumes, and the pod's user.
    fn manifest(&self, schedule: &str, more: &[&str]) -> (Value, Value, u32) {
        let tools = std::env::var("MAINT_TEST_TOOLS").unwrap();
        let out = self.workspace.path().join("manifests");
        let args = ["export", "kubernetes", "--out", out.to_str().unwrap()];
        self.workspace.run(args.iter().chain(more)).expect(0);
        let file = out.join(format!("maint-{schedule}-cronjob.yaml"));
        let documents = by_kind(&tools, &fs::read_to_string(file).unwrap());
        let pod = &documents["CronJob"]["spec"]["jobTemplate"]["spec"]["template"]["spec"];
        let user = pod["securityContext"]["runAsUser"].as_u64().unwrap();
        let (container, volumes) = (pod["containers"][0].clone(), pod["volumes"].clone());
        assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
        (container, volumes, u32::try_from(user).unwrap())
    }

    /// Folders as a new pod has them: the files, which nobody may change, and what is empty.
    fn mounts(&self, schedule: &str, at: &Path) -> Mounts {
        let (container, volumes, user) = self.manifest(schedule, &[]);
        let mut mounts = Mounts::new();
        for mount in container["volumeMounts"].as_array().unwrap() {
            let name = mount["name"].as_str().unwrap();
            let volume = volumes.as_array().unwrap().iter();
            let volume = volume.clone().find(|one| one["name"] == name).unwrap();
            let folder = at.join(name);
            fs::create_dir_all(&folder).unwrap();
            if volume["emptyDir"].is_object() {
                // Whoever is not root cannot give it away, and is the pod's user here.
                let _ = chown(&folder, Some(user), Some(user));
            } else {
                assert_eq!(name, "config");
                fs::create_dir_all(folder.join("tasks")).unwrap();
                for item in volume["configMap"]["items"].as_array().unwrap() {
                    let path = item["path"].as_str().unwrap();
                    fs::copy(self.workspace.path().join(path), folder.join(path)).unwrap();
                }
                fs::set_permissions(&folder, PermissionsExt::from_mode(0o555)).unwrap();
            }
            let inside = mount["mountPath"].as_str().unwrap().to_owned();
            mounts.insert(inside, folder);
        }
        fs::set_permissions(at, PermissionsExt::from_mode(0o755)).unwrap();
        mounts
    }

    /// Starts the pod of a schedule with these folders.
    fn start(&self, schedule: &str, mounts: &Mounts) -> Child {
        let (container, _, user) = self.manifest(schedule, &[]);
        let args: Vec<&str> = container["args"]
            .as_array()
            .unwrap()
            .iter()
            .map(|a| a.as_str().unwrap())
            .collect();
        let not_started = "--not-started-ok";
        assert_eq!(args, ["run", "--due", not_started, "--schedule", schedule]);
        let mut pod = self.workspace.process(&args);
        pod.env_remove("HOME").current_dir("/");
        for variable in container["env"].as_array().unwrap() {
            let value = variable["value"].as_str().unwrap();
            let mount = mounts
                .iter()
                .find(|(inside, _)| value.starts_with(inside.as_str()));
            let (inside, folder) = mount.unwrap_or_else(|| panic!("{value} is mounted nowhere"));
            let value = value.replacen(inside.as_str(), folder.to_str().unwrap(), 1);
            pod.env(variable["name"].as_str().unwrap(), value);
        }
        if nix::unistd::geteuid().is_root() {
            pod.uid(user).gid(user);
        }
        pod.stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Keeps the tasks from going on.
    async fn hold(&self) {
        let sql = "SELECT pg_catalog.pg_advisory_lock(42)";
        self.target.client.batch_execute(sql).await.unwrap();
    }

    /// Waits until a task has come so far.
    async fn in_the_middle(&self, pod: &mut Child) {
        let waiting = "SELECT count(*) FROM pg_catalog.pg_stat_activity
            WHERE datname = pg_catalog.current_database() AND wait_event = 'advisory'";
        let patience = Patience::until("the task to reach its statement");
        while self.target.number(waiting).await == 0 {
            if pod.try_wait().unwrap().is_some() {
                let mut said = String::new();
                pod.stderr
                    .take()
                    .unwrap()
                    .read_to_string(&mut said)
                    .unwrap();
                panic!("it ended too early: {said}");
            }
            patience.pause().await;
        }
    }

    async fn let_go(&self) {
        let sql = "SELECT pg_catalog.pg_advisory_unlock(42)";
        self.target.client.batch_execute(sql).await.unwrap();
    }

    /// How often a task has succeeded because of a schedule, as the history says.
    async fn recorded(&self, task: &str) -> i64 {
        self.history
            .number(&format!(
                "SELECT count(*) FROM maint.runs r WHERE r.task = '{task}' AND r.status = 'succeeded' AND r.trigger = 'schedule'
                    AND r.scheduled_for IS NOT NULL AND 2 = (SELECT count(*) FROM maint.steps s WHERE s.run_id = r.id AND s.status = 'succeeded')"
            ))
            .await
    }
}

fn ended(pod: Child) -> String {
    let ended = pod.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(0), "{said}");
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_keeps_what_the_history_does_not_take() {
    let cluster = Cluster::new().await;
    let folders = tempfile::tempdir().unwrap();
    let new_pod = |name: &str, schedule: &str| cluster.mounts(schedule, &folders.path().join(name));

    // The tables of the history are there.
    cluster.workspace.run(["history"]).expect(0);
    let made = maint::history::open(&cluster.history.url).await.unwrap();
    made.close().await;

    // Away when the pod starts, until it has ended: what it did is beside, in what it may write to.
    cluster.wire.set(Mode::Cut);
    let first = new_pod("first", "s1");
    let said = ended(cluster.start("s1", &first));
    assert!(said.contains("going on without the history"), "{said}");
    assert_eq!(cluster.target.number("SELECT count(*) FROM t").await, 2);
    let state = &first["/var/lib/maint"];
    let kept: Vec<PathBuf> = fs::read_dir(state.join("maint-spool"))
        .unwrap_or_else(|why| panic!("{why}: {said}"))
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(kept.len(), 1, "{kept:?}");
    let mode = fs::metadata(&kept[0]).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // With the same folder, as with a volume, the next pod writes it; the occurrence is not done twice.
    cluster.wire.set(Mode::Pass);
    ended(cluster.start("s1", &first));
    assert_eq!(fs::read_dir(state.join("maint-spool")).unwrap().count(), 0);
    assert_eq!(cluster.recorded("work1").await, 1);
    assert_eq!(cluster.target.number("SELECT count(*) FROM t").await, 2);

    // Away when it starts, and back before it ends: written by the pod itself.
    cluster.wire.set(Mode::Cut);
    cluster.hold().await;
    let mut pod = cluster.start("s2", &new_pod("second", "s2"));
    cluster.in_the_middle(&mut pod).await;
    cluster.wire.set(Mode::Pass);
    cluster.let_go().await;
    ended(pod);
    assert_eq!(cluster.recorded("work2").await, 1);

    // Away in the middle, and back later.
    cluster.hold().await;
    let third = new_pod("third", "s3");
    let mut pod = cluster.start("s3", &third);
    cluster.in_the_middle(&mut pod).await;
    cluster.wire.set(Mode::Cut);
    cluster.let_go().await;
    let patience = Patience::until("the last step");
    while cluster.target.number("SELECT count(*) FROM t").await < 6 {
        patience.pause().await;
    }
    let spool = third["/var/lib/maint"].join("maint-spool");
    let patience = Patience::until("what is kept beside");
    while fs::read_dir(&spool).map_or(0, Iterator::count) == 0 {
        patience.pause().await;
    }
    cluster.wire.set(Mode::Pass);
    ended(pod);
    assert_eq!(cluster.recorded("work3").await, 1);
    assert_eq!(cluster.target.number("SELECT count(*) FROM t").await, 6);
}

/// Who wants what is kept to outlive the pod has a volume claimed.
#[tokio::test]
async fn a_volume_may_be_claimed_for_it() {
    let cluster = Cluster::new().await;
    let volume_of = |more: &[&str]| {
        let (container, volumes, _) = cluster.manifest("s1", more);
        let mounts = container["volumeMounts"].as_array().unwrap();
        let mount = mounts
            .iter()
            .find(|one| one["mountPath"] == "/var/lib/maint")
            .unwrap();
        let volumes = volumes.as_array().unwrap();
        volumes
            .iter()
            .find(|one| one["name"] == mount["name"])
            .unwrap()
            .clone()
    };
    assert!(volume_of(&[])["emptyDir"].is_object());
    let claimed = &volume_of(&["--volume"])["persistentVolumeClaim"]["claimName"];
    assert_eq!(claimed, "maint-history");
}
