//! MongoDB servers of one's own: alone, and as a set of three with TLS and
//! passwords. They end with the test process, however that ends.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use mongodb::bson::{Document, doc};
use mongodb::{Client, Collection, Database};
use tempfile::TempDir;
use uuid::Uuid;

use crate::connect::certificates::Authority;

/// The server of this version, `44` for 4.4, as `./scripts/test` names it.
fn mongod(version: u32) -> PathBuf {
    let variable = format!("MAINT_TEST_MONGOD_{version}");
    let path = std::env::var(&variable).unwrap_or_else(|_| {
        panic!("{variable} is not set: run ./scripts/test, which installs the servers and sets it")
    });
    PathBuf::from(path)
}

/// Kills the servers named in `pids` and removes the folder once its standard
/// input closes, which the system sees to however the test process ends.
const WATCHER: &str = r#"
cat >/dev/null
for pid in $(cat "$1/pids" 2>/dev/null); do kill -9 "$pid" 2>/dev/null; done
sleep 0.2
rm -rf -- "$1"
"#;

/// Servers in one folder.
pub(crate) struct Servers {
    folder: TempDir,
    version: u32,
    members: Vec<Member>,
    authority: Option<Authority>,
    _watcher: Child,
}

struct Member {
    port: u16,
    process: Child,
    arguments: Vec<String>,
}

pub(crate) const PASSWORD: &str = "q9z%ecret:z9q";

impl Servers {
    fn folder(version: u32) -> Servers {
        let folder = tempfile::Builder::new()
            .prefix("maint-mongo-")
            .tempdir()
            .unwrap();
        let watcher = Command::new("sh")
            .args(["-c", WATCHER, "watcher"])
            .arg(folder.path())
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        Servers {
            folder,
            version,
            members: Vec::new(),
            authority: None,
            _watcher: watcher,
        }
    }

    /// One server without passwords and TLS.
    pub(crate) fn alone(version: u32) -> Servers {
        let mut servers = Servers::folder(version);
        servers.start(&[]);
        servers
    }

    /// One server without passwords that demands a certificate of who connects.
    pub(crate) fn demanding(version: u32) -> Servers {
        let mut servers = Servers::folder(version);
        let path = servers.folder.path().to_owned();
        let authority = Authority::new("maint test authority");
        let server = authority.server(&["localhost", "127.0.0.1"]);
        fs::write(path.join("ca.pem"), &authority.certificate_pem).unwrap();
        let pem = format!("{}{}", server.certificate_pem, server.key_pem);
        fs::write(path.join("server.pem"), pem).unwrap();
        servers.authority = Some(authority);
        let at = |name: &str| path.join(name).to_str().unwrap().to_owned();
        let (pem, ca) = (at("server.pem"), at("ca.pem"));
        servers.start(&[
            "--tlsMode",
            "requireTLS",
            "--tlsCertificateKeyFile",
            &pem,
            "--tlsCAFile",
            &ca,
        ]);
        servers
    }

    /// A replica set of three, TLS required, passwords required, that soon has another primary where one is lost.
    pub(crate) async fn set(version: u32) -> Servers {
        let mut servers = Servers::folder(version);
        let path = servers.folder.path().to_owned();
        let authority = Authority::new("maint test authority");
        let server = authority.server(&["localhost", "127.0.0.1"]);
        fs::write(path.join("ca.pem"), &authority.certificate_pem).unwrap();
        let pem = format!("{}{}", server.certificate_pem, server.key_pem);
        fs::write(path.join("server.pem"), pem).unwrap();
        fs::write(path.join("key"), "bWFpbnR0ZXN0bWFpbnR0ZXN0").unwrap();
        fs::set_permissions(path.join("key"), fs::Permissions::from_mode(0o600)).unwrap();
        servers.authority = Some(authority);
        let at = |name: &str| path.join(name).to_str().unwrap().to_owned();
        let (key, pem, ca) = (at("key"), at("server.pem"), at("ca.pem"));
        let arguments = [
            "--replSet",
            "rs0",
            "--keyFile",
            &key,
            "--oplogSize",
            "64",
            "--tlsMode",
            "requireTLS",
            "--tlsCertificateKeyFile",
            &pem,
            "--tlsCAFile",
            &ca,
            "--tlsAllowConnectionsWithoutCertificates",
        ];
        for _ in 0..3 {
            servers.start(&arguments);
        }
        servers.initiate().await;
        servers
    }

    /// A replica set of one, without passwords and TLS.
    pub(crate) async fn single(version: u32) -> Servers {
        let mut servers = Servers::folder(version);
        servers.start(&["--replSet", "one"]);
        let config = doc! { "_id": "one", "members": [{ "_id": 0, "host": servers.address(0) }] };
        servers.begin(0, config).await;
        servers
    }

    /// Makes a server the first member of its set.
    async fn begin(&self, n: usize, config: Document) {
        let admin = self.direct(n, None).await.database("admin");
        admin
            .run_command(doc! { "replSetInitiate": config })
            .await
            .unwrap();
        let patience = super::patience::Patience::until("a primary");
        loop {
            let hello = admin.run_command(doc! { "hello": 1 }).await.unwrap();
            if hello.get_bool("isWritablePrimary").unwrap() {
                return;
            }
            patience.pause().await;
        }
    }

    /// A sharded cluster without a router: the first server is its configuration, the second its one
    /// shard, a replica set each. Every database in `databases` is the cluster's.
    pub(crate) async fn cluster(version: u32, databases: &[&str]) -> Servers {
        let mut servers = Servers::folder(version);
        servers.start(&["--configsvr", "--replSet", "config"]);
        servers.start(&["--shardsvr", "--replSet", "part"]);
        for (n, name) in [(0, "config"), (1, "part")] {
            let mut config =
                doc! { "_id": name, "members": [{ "_id": 0, "host": servers.address(n) }] };
            if n == 0 {
                config.insert("configsvr", true);
            }
            servers.begin(n, config).await;
        }
        let config = servers.direct(0, None).await.database("admin");
        let majority = doc! { "w": "majority" };
        let add = doc! {
            "_configsvrAddShard": format!("part/{}", servers.address(1)), "name": "one",
            "writeConcern": majority.clone(),
        };
        config.run_command(add).await.unwrap();
        for database in databases {
            let create = match version {
                44 => {
                    doc! { "_configsvrEnableSharding": *database, "writeConcern": majority.clone() }
                }
                _ => doc! {
                    "_configsvrCreateDatabase": *database, "primaryShardId": "one",
                    "writeConcern": majority.clone(),
                },
            };
            config.run_command(create).await.unwrap();
        }
        servers
    }

    /// Shards a collection of the cluster by its `_id`.
    pub(crate) async fn shard(&self, database: &str, collection: &str) {
        let (config, part) = (self.direct(0, None).await, self.direct(1, None).await);
        let whole = format!("{database}.{collection}");
        let majority = doc! { "w": "majority" };
        let key = doc! { "_id": 1 };
        let done = match self.version {
            44 => {
                let shard = doc! { "_configsvrShardCollection": &whole, "key": key, "writeConcern": majority };
                config.database("admin").run_command(shard).await
            }
            50 => {
                let shard = doc! { "_shardsvrShardCollection": &whole, "key": key, "writeConcern": majority };
                part.database("admin").run_command(shard).await
            }
            _ => {
                let of = config
                    .database("config")
                    .collection::<Document>("databases");
                let of = of
                    .find_one(doc! { "_id": database })
                    .await
                    .unwrap()
                    .unwrap();
                let shard = doc! {
                    "_shardsvrCreateCollection": collection, "shardKey": key,
                    "databaseVersion": of.get_document("version").unwrap().clone(),
                    "writeConcern": majority,
                };
                part.database(database).run_command(shard).await
            }
        };
        done.unwrap();
        let known = part
            .database("config")
            .collection::<Document>("cache.collections");
        let patience = super::patience::Patience::until("a shard that knows what is sharded");
        while known.count_documents(doc! { "_id": &whole }).await.unwrap() == 0 {
            patience.pause().await;
        }
    }

    /// The URL of one member, without passwords and TLS.
    pub(crate) fn direct_url(&self, n: usize, database: &str) -> String {
        format!(
            "mongodb://{}/{database}?directConnection=true",
            self.address(n)
        )
    }

    fn start(&mut self, arguments: &[&str]) {
        let n = self.members.len();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let data = self.folder.path().join(format!("d{n}"));
        fs::create_dir(&data).unwrap();
        let mut all: Vec<String> = [
            "--bind_ip",
            "127.0.0.1",
            "--nounixsocket",
            "--wiredTigerCacheSizeGB",
            "0.5",
            "--setParameter",
            "enableTestCommands=1",
            "--setParameter",
            "ttlMonitorSleepSecs=1",
            "--setParameter",
            "diagnosticDataCollectionEnabled=false",
        ]
        .iter()
        .map(ToString::to_string)
        .collect();
        all.extend([
            "--port".to_owned(),
            port.to_string(),
            "--dbpath".to_owned(),
            data.display().to_string(),
        ]);
        all.extend([
            "--logpath".to_owned(),
            data.join("log").display().to_string(),
            "--logappend".to_owned(),
        ]);
        all.extend(arguments.iter().map(ToString::to_string));
        let process = self.spawn(&all, port);
        self.members.push(Member {
            port,
            process,
            arguments: all,
        });
    }

    fn spawn(&self, arguments: &[String], port: u16) -> Child {
        let process = Command::new(mongod(self.version))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        use std::io::Write;
        let pids = self.folder.path().join("pids");
        let mut file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(pids)
            .unwrap();
        writeln!(file, "{}", process.id()).unwrap();
        let began = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "waited in vain until mongod listens on {port}; {}",
                arguments.join(" ")
            );
            std::thread::sleep(Duration::from_millis(30));
        }
        process
    }

    /// From now on a primary that is only slow stays one. On a busy machine another would take its place, and with
    /// it would go what tests have written and a majority does not have yet, and what was counted there.
    async fn keep_the_primary(&self) {
        let admin = self.root().await.database("admin");
        let current = admin.run_command(doc! { "replSetGetConfig": 1 });
        let mut config = current
            .await
            .unwrap()
            .get_document("config")
            .unwrap()
            .clone();
        let version = config.get_i32("version").unwrap();
        config.insert("version", version + 1);
        let settings = config.get_document_mut("settings").unwrap();
        settings.insert("electionTimeoutMillis", 60_000);
        let changed = doc! { "replSetReconfig": config };
        admin.run_command(changed).await.unwrap();
    }

    async fn initiate(&self) {
        let first = self.direct(0, None).await;
        let members: Vec<Document> = (0..3)
            .map(|n| doc! { "_id": n, "host": self.address(n as usize) })
            .collect();
        let config = doc! {
            "_id": "rs0", "members": members,
            "settings": { "electionTimeoutMillis": 2000, "heartbeatIntervalMillis": 500 },
        };
        let admin = first.database("admin");
        admin
            .run_command(doc! { "replSetInitiate": config })
            .await
            .unwrap();
        let began = Instant::now();
        loop {
            let hello = admin.run_command(doc! { "hello": 1 }).await.unwrap();
            if hello.get_bool("isWritablePrimary").unwrap() {
                break;
            }
            // Whoever is elected is the one that may still be set up without a password.
            if let Ok(primary) = hello.get_str("primary")
                && primary != self.address(0)
            {
                let _ = self
                    .primary_of(primary)
                    .await
                    .database("admin")
                    .run_command(doc! { "replSetStepDown": 5 })
                    .await;
            }
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "waited in vain for a primary"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let create = doc! { "createUser": "root", "pwd": PASSWORD, "roles": ["root"] };
        admin.run_command(create).await.unwrap();
        let root = self.root().await;
        let roles = [
            "readWriteAnyDatabase",
            "dbAdminAnyDatabase",
            "clusterMonitor",
        ];
        let create = doc! { "createUser": "maint", "pwd": PASSWORD, "roles": roles.to_vec(), "writeConcern": { "w": 3 } };
        root.database("admin").run_command(create).await.unwrap();
    }

    async fn primary_of(&self, address: &str) -> Client {
        let n = (0..self.members.len())
            .find(|n| self.address(*n) == address)
            .unwrap();
        self.direct(n, None).await
    }

    /// The port of a member.
    pub(crate) fn port(&self, n: usize) -> u16 {
        self.members[n].port
    }

    /// `127.0.0.1:port` of a member.
    pub(crate) fn address(&self, n: usize) -> String {
        format!("127.0.0.1:{}", self.members[n].port)
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn authority(&self) -> &Authority {
        self.authority.as_ref().unwrap()
    }

    /// The URL for this user and database, with further options.
    pub(crate) fn url(&self, user: Option<&str>, database: &str, options: &str) -> String {
        let hosts: Vec<String> = (0..self.members.len()).map(|n| self.address(n)).collect();
        let hosts = hosts.join(",");
        let Some(_) = &self.authority else {
            return format!("mongodb://{hosts}/{database}?{options}");
        };
        let credentials = user.map(|user| {
            format!(
                "{user}:{}@",
                PASSWORD.replace('%', "%25").replace(':', "%3A")
            )
        });
        format!(
            "mongodb://{}{hosts}/{database}?replicaSet=rs0&authSource=admin&tls=true&tlsCAFile={}{options}",
            credentials.unwrap_or_default(),
            self.folder.path().join("ca.pem").display()
        )
    }

    /// As maint itself connects.
    pub(crate) fn maint_url(&self, database: &str) -> String {
        self.url(Some("maint"), database, "")
    }

    /// A client of somebody who may do everything.
    pub(crate) async fn root(&self) -> Client {
        Client::with_uri_str(self.url(Some("root"), "admin", ""))
            .await
            .unwrap()
    }

    /// A client of one member.
    pub(crate) async fn direct(&self, n: usize, user: Option<&str>) -> Client {
        let hosts = self.address(n);
        let mut url = format!("mongodb://{hosts}/admin?directConnection=true");
        if self.authority.is_some() {
            let credentials = user.map(|user| {
                format!(
                    "{user}:{}@",
                    PASSWORD.replace('%', "%25").replace(':', "%3A")
                )
            });
            url = format!(
                "mongodb://{}{hosts}/admin?directConnection=true&authSource=admin&tls=true&tlsCAFile={}",
                credentials.unwrap_or_default(),
                self.folder.path().join("ca.pem").display()
            );
        }
        Client::with_uri_str(url).await.unwrap()
    }

    /// Which member is primary.
    pub(crate) async fn primary(&self) -> usize {
        let began = Instant::now();
        loop {
            for n in 0..self.members.len() {
                let client = self.direct(n, Some("root")).await;
                let hello = client
                    .database("admin")
                    .run_command(doc! { "hello": 1 })
                    .await;
                if hello.is_ok_and(|hello| hello.get_bool("isWritablePrimary").unwrap_or(false)) {
                    return n;
                }
            }
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "waited in vain for a primary"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub(crate) async fn step_down(&self) {
        let n = self.primary().await;
        let admin = self.direct(n, Some("root")).await.database("admin");
        let down = doc! { "replSetStepDown": 20, "secondaryCatchUpPeriodSecs": 10, "force": true };
        admin.run_command(down).await.unwrap();
    }

    /// Kills a member as a crash would.
    pub(crate) fn kill(&mut self, n: usize) {
        self.members[n].process.kill().unwrap();
        self.members[n].process.wait().unwrap();
    }

    pub(crate) fn restart(&mut self, n: usize) {
        let (arguments, port) = (self.members[n].arguments.clone(), self.members[n].port);
        self.members[n].process = self.spawn(&arguments, port);
    }

    /// Waits until both others are secondaries that have everything.
    pub(crate) async fn whole(&self) {
        let began = Instant::now();
        loop {
            let n = self.primary().await;
            let admin = self.direct(n, Some("root")).await.database("admin");
            let status = admin
                .run_command(doc! { "replSetGetStatus": 1 })
                .await
                .unwrap();
            let states: Vec<String> = status
                .get_array("members")
                .unwrap()
                .iter()
                .map(|m| {
                    m.as_document()
                        .unwrap()
                        .get_str("stateStr")
                        .unwrap()
                        .to_owned()
                })
                .collect();
            if states.iter().filter(|s| *s == "SECONDARY").count() == self.members.len() - 1 {
                return;
            }
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "waited in vain for a whole set: {states:?}"
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for member in &mut self.members {
            let _ = member.process.kill();
            let _ = member.process.wait();
        }
    }
}

/// The set that all tests of this version share.
pub(crate) fn shared_set(version: u32) -> &'static Servers {
    static SETS: [OnceLock<Servers>; 3] = [const { OnceLock::new() }; 3];
    let n = match version {
        44 => 0,
        50 => 1,
        60 => 2,
        _ => panic!("there is no server of version {version}"),
    };
    SETS[n].get_or_init(|| {
        // On a thread and runtime of its own: the test's may be busy waiting for this.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async {
                let set = Servers::set(version).await;
                set.keep_the_primary().await;
                set
            })
        })
        .join()
        .unwrap()
    })
}

/// A database of one's own on the shared set.
pub(crate) struct TestBase {
    pub(crate) servers: &'static Servers,
    pub(crate) name: String,
    pub(crate) db: Database,
}

impl TestBase {
    pub(crate) async fn new(version: u32) -> TestBase {
        let servers = shared_set(version);
        let name = format!("t{}", Uuid::now_v7().simple());
        let db = servers.root().await.database(&name);
        TestBase { servers, name, db }
    }

    pub(crate) fn url(&self) -> String {
        self.servers.maint_url(&self.name)
    }

    pub(crate) fn collection(&self, name: &str) -> Collection<Document> {
        self.db.collection(name)
    }

    pub(crate) async fn count(&self, collection: &str, filter: Document) -> u64 {
        self.collection(collection)
            .count_documents(filter)
            .await
            .unwrap()
    }

    /// The `_id`s of a collection, in order, as text.
    pub(crate) async fn ids(&self, collection: &str) -> Vec<String> {
        use futures_util::TryStreamExt;
        let found = self
            .collection(collection)
            .find(doc! {})
            .sort(doc! { "_id": 1 })
            .await
            .unwrap();
        let found: Vec<Document> = found.try_collect().await.unwrap();
        found
            .iter()
            .map(|d| d.get("_id").unwrap().to_string())
            .collect()
    }
}
