//! A real PgBouncer between us and the server.

use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio_postgres::Config;

use crate::support::servers::{TestDatabase, fresh_database};
use crate::support::workspace::Workspace;

struct Pooler {
    process: Child,
    url: String,
    _folder: TempDir,
}

impl Pooler {
    fn start(db: &TestDatabase, mode: &str) -> Pooler {
        let server: Config = db.url.parse().unwrap();
        let password = String::from_utf8(server.get_password().unwrap().to_vec()).unwrap();
        let tokio_postgres::config::Host::Tcp(host) = &server.get_hosts()[0] else {
            panic!("the test servers listen on TCP");
        };
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("pgbouncer.ini");
        std::fs::write(
            &config,
            format!(
                "[databases]\napp = host={host} port={} dbname={} user={} password='{password}'\n\
                 [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
                 auth_type = any\npool_mode = {mode}\ndefault_pool_size = 5\n",
                server.get_ports()[0],
                db.name,
                server.get_user().unwrap(),
            ),
        )
        .unwrap();
        let mut command = Command::new("pgbouncer");
        if nix::unistd::geteuid().is_root() {
            // It refuses to run as root.
            std::os::unix::fs::chown(folder.path(), Some(65534), Some(65534)).unwrap();
            std::os::unix::fs::chown(&config, Some(65534), Some(65534)).unwrap();
            command.uid(65534).gid(65534);
        }
        let process = command
            .arg(&config)
            .env("PATH", "/usr/sbin:/usr/bin:/bin")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("pgbouncer is installed: ./scripts/packages does that");
        for _ in 0..100 {
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Pooler {
            process,
            url: format!("postgres://somebody@127.0.0.1:{port}/app?sslmode=disable"),
            _folder: folder,
        }
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

for_each_version! {
    /// In transaction mode locks and settings would be somebody else's:
    /// nothing is done. A session pool is as good as the server.
    async fn a_pool_of_transactions_is_refused_and_one_of_sessions_is_not(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE t (id int); INSERT INTO t SELECT generate_series(1, 5000)").await;
        for (mode, code) in [("transaction", 3), ("statement", 3), ("session", 0)] {
            let pooler = Pooler::start(&db, mode);
            let workspace = Workspace::for_target(&pooler.url)
                .task("analyze", "kind: analyze\ntarget: app\n");
            let ran = workspace.run(["run", "analyze", "--now"]).expect(code);
            let doctor = workspace.run(["doctor"]).expect(code);
            let analyzed = db.number("SELECT count(*) FROM pg_stats WHERE tablename = 't'").await;
            if code == 3 {
                for said in [&ran.stdout, &doctor.stdout] {
                    assert!(said.contains("through a pooler in transaction mode"), "{mode}: {said}");
                    assert!(said.contains("point the target's `url` at PostgreSQL itself"), "{mode}: {said}");
                }
                assert_eq!(analyzed, 0, "{mode}");
            } else {
                assert_eq!(analyzed, 1, "{mode}");
            }
        }
    }
}
