use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use maint::demo::Cluster;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::patience::Patience;
use super::servers::connect;

/// Stops the server when its standard input closes, which the system does
/// for us however the test process ends.
const KEEPER: &str = r#""$1" -D "$2" -p "$3" >"$2.log" 2>&1 & server=$!; cat >/dev/null; kill -QUIT $server; wait $server"#;

/// A server on a data folder that somebody else made.
pub(crate) struct Server {
    data: PathBuf,
    port: u16,
    password: String,
    keeper: Child,
    _folder: Option<TempDir>,
}

impl Server {
    /// Starts on `data` as the user who owns it.
    fn start(major: u32, data: &Path, password: &str, folder: Option<TempDir>) -> Server {
        let owner = fs::metadata(data).unwrap();
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let mut keeper = Command::new("/bin/sh");
        keeper
            .args(["-c", KEEPER, "keeper"])
            .arg(program(major))
            .arg(data)
            .arg(port.to_string())
            .current_dir(data)
            .stdin(Stdio::piped())
            .process_group(0);
        if nix::unistd::geteuid().is_root() {
            keeper.uid(owner.uid()).gid(owner.gid());
        }
        let server = Server {
            data: data.to_owned(),
            port,
            password: password.to_owned(),
            keeper: keeper.spawn().unwrap(),
            _folder: folder,
        };
        let ready = || {
            let pid_file = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
            pid_file
                .lines()
                .nth(7)
                .is_some_and(|status| status.trim() == "ready")
        };
        let patience = Patience::until("the server to be ready");
        while !ready() {
            assert!(data.exists(), "{} is gone", data.display());
            let log = server.log();
            assert!(!log.contains("FATAL") && !log.contains("PANIC"), "{log}");
            patience.wait();
        }
        server
    }

    pub(crate) fn url(&self, database: &str) -> String {
        let Self { password, port, .. } = self;
        format!("postgres://postgres:{password}@127.0.0.1:{port}/{database}?sslmode=disable")
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.data.with_extension("log")).unwrap_or_default()
    }

    /// Stops it as a crash would, lets `change` work on its files, and starts it again, at another
    /// port.
    pub(crate) fn again(&mut self, major: u32, change: impl FnOnce(&Path)) {
        self.stop();
        let _ = fs::remove_file(self.data.join("postmaster.pid"));
        change(&self.data);
        let folder = self._folder.take();
        *self = Server::start(major, &self.data, &self.password, folder);
    }

    /// Ends it; its folder stays until the value is dropped.
    pub(crate) fn stop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn program(major: u32) -> PathBuf {
    let variable = format!("MAINT_TEST_PG_BIN_{major}");
    let folder = std::env::var_os(&variable)
        .unwrap_or_else(|| panic!("{variable} is not set: run ./scripts/test"));
    PathBuf::from(folder).join("postgres")
}

/// Stops the cluster's own server, lets `change` work on its files, and
/// starts another server on them. The cluster must outlive that.
pub(crate) fn restarted(major: u32, cluster: &Cluster, change: impl FnOnce(&Path)) -> Server {
    kill(Pid::from_raw(cluster.pid().cast_signed()), Signal::SIGINT).unwrap();
    let patience = Patience::until("the server to stop");
    while cluster.data_dir().join("postmaster.pid").exists() {
        patience.wait();
    }
    change(cluster.data_dir());
    Server::start(major, cluster.data_dir(), cluster.password(), None)
}

/// A standby of the cluster, made from a copy of its files while it runs.
/// `change` works on the copy before the standby starts.
pub(crate) async fn standby(major: u32, cluster: &Cluster, change: impl FnOnce(&Path)) -> Server {
    let client = connect(&cluster.url("postgres")).await;
    let (begin, end) = if major >= 15 {
        (
            "SELECT pg_backup_start('copy', true)::text",
            "SELECT labelfile FROM pg_backup_stop(false)",
        )
    } else {
        (
            "SELECT pg_start_backup('copy', true, false)::text",
            "SELECT labelfile FROM pg_stop_backup(false, false)",
        )
    };
    let folder = tempfile::Builder::new()
        .prefix("maint-standby-")
        .tempdir()
        .unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let owner = fs::metadata(cluster.data_dir()).unwrap();
    let own = |path: &Path| chown(path, Some(owner.uid()), Some(owner.gid())).unwrap();
    own(folder.path());
    let data = folder.path().join("data");
    client.query_one(begin, &[]).await.unwrap();
    let copied = Command::new("cp")
        .arg("-a")
        .arg(cluster.data_dir())
        .arg(&data)
        .output()
        .unwrap();
    // A temporary file that vanished meanwhile is no loss.
    assert!(data.join("global/pg_control").exists(), "{copied:?}");
    let label: String = client.query_one(end, &[]).await.unwrap().get(0);
    let _ = fs::remove_file(data.join("postmaster.pid"));
    let conninfo = format!(
        "host=127.0.0.1 port={} user=postgres password={}",
        cluster.port(),
        cluster.password()
    );
    let settings = fs::read_to_string(data.join("postgresql.auto.conf")).unwrap()
        + &format!(
            "primary_conninfo = '{conninfo}'\nhot_standby = on\nunix_socket_directories = ''\n"
        );
    for (name, content) in [
        ("backup_label", label),
        ("standby.signal", String::new()),
        ("postgresql.auto.conf", settings),
    ] {
        fs::write(data.join(name), content).unwrap();
        own(&data.join(name));
    }
    change(&data);
    let server = Server::start(major, &data, cluster.password(), Some(folder));
    // What was written until now has arrived.
    let position: String = client
        .query_one("SELECT pg_current_wal_lsn()::text", &[])
        .await
        .unwrap()
        .get(0);
    let copy = connect(&server.url("postgres")).await;
    let there = format!("SELECT coalesce(pg_last_wal_replay_lsn() >= '{position}'::pg_lsn, false)");
    let patience = Patience::until("the standby to catch up");
    while !copy.query_one(&there, &[]).await.unwrap().get::<_, bool>(0) {
        patience.pause().await;
    }
    server
}
