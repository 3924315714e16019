//! A server that lies: between maint and a real one, answers are changed, left
//! out and made up. Whatever comes, nothing panics. What is changed depends on a
//! number alone, which a failing test names, and on the order of connections.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use maint::engines::postgres::connect::Dial;
use maint::engines::postgres::{Session, watch};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::servers::fresh_database;
use crate::support::workspace::Workspace;

/// Numbers that look like chance, and are the same every time.
#[derive(Clone)]
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: u64) -> u64 {
        self.roll() % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.roll().to_le_bytes()[3]).collect()
    }
}

/// What a connection has agreed on so far.
#[derive(Default)]
struct Talk {
    /// Types of the columns of prepared statements, by name.
    columns: HashMap<String, Vec<u32>>,
    /// Statements whose columns were asked for.
    described: VecDeque<String>,
    /// Statements that were bound, and not yet answered.
    bound: VecDeque<String>,
}

/// A value as the server would send it, of about this type.
fn value(of: u32, dice: &mut Dice) -> Option<Vec<u8>> {
    let number = |dice: &mut Dice, n: usize| match dice.below(6) {
        0 => vec![0; n],
        1 => [vec![0x7f], vec![0xff; n - 1]].concat(),
        2 => [vec![0x80], vec![0; n - 1]].concat(),
        3 => vec![0xff; n],
        4 => [vec![0; n - 1], dice.bytes(1)].concat(),
        _ => dice.bytes(n),
    };
    let text = |dice: &mut Dice| match dice.below(6) {
        0 => Vec::new(),
        1 => b"caf\xe9 \xff".to_vec(),
        2 => "\u{10FFFF}\0'\"$1\u{1b}[31m\n".as_bytes().to_vec(),
        3 => vec![b'x'; 5_000],
        4 => b"pid 1; active; -1".to_vec(),
        _ => {
            let n = dice.below(20) as usize;
            dice.bytes(n)
        }
    };
    if dice.one_in(6) {
        return None;
    }
    let array = |dice: &mut Dice, of: u32| {
        let n = dice.below(4) as u32;
        let mut all = [1_u32, 0, of, n, 1].map(u32::to_be_bytes).concat();
        for _ in 0..n {
            match value(of, dice) {
                Some(value) => {
                    all.extend((value.len() as u32).to_be_bytes());
                    all.extend(value);
                }
                None => all.extend([0xff; 4]),
            }
        }
        if dice.one_in(8) {
            all.truncate(all.len() / 2);
        }
        all
    };
    Some(match of {
        16 => vec![dice.one_in(2).into()],
        18 => dice.bytes(1),
        21 => number(dice, 2),
        23 | 26 => number(dice, 4),
        20 | 701 | 1184 | 1114 => number(dice, 8),
        700 => number(dice, 4),
        19 | 25 | 1042 | 1043 => text(dice),
        114 => [
            &b"{}"[..],
            b"[]",
            b"null",
            b"{\"a\":1e999}",
            b"{",
            b"\"\xff\"",
        ][dice.below(6) as usize]
            .to_vec(),
        3802 => [&b"\x01{}"[..], b"\x01[1]", b"\x02{}", b"", b"\x01null"][dice.below(5) as usize]
            .to_vec(),
        1007 => array(dice, 23),
        1009 => array(dice, 25),
        1016 => array(dice, 20),
        1021 => array(dice, 700),
        1028 => array(dice, 26),
        _ => {
            let n = dice.below(12) as usize;
            dice.bytes(n)
        }
    })
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[kind][..], &length.to_be_bytes(), body].concat()
}

fn row(values: &[Option<Vec<u8>>]) -> Vec<u8> {
    let mut body = u16::try_from(values.len()).unwrap().to_be_bytes().to_vec();
    for value in values {
        match value {
            Some(value) => {
                body.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
                body.extend(value);
            }
            None => body.extend([0xff; 4]),
        }
    }
    message(b'D', &body)
}

fn fields(body: &[u8]) -> Vec<Option<Vec<u8>>> {
    let mut at = 2;
    let mut all = Vec::new();
    for _ in 0..u16::from_be_bytes([body[0], body[1]]) {
        let length = i32::from_be_bytes(body[at..at + 4].try_into().unwrap());
        at += 4;
        all.push(usize::try_from(length).ok().map(|n| {
            let value = body[at..at + n].to_vec();
            at += n;
            value
        }));
    }
    all
}

fn word(body: &[u8]) -> (String, &[u8]) {
    let end = body.iter().position(|b| *b == 0).unwrap();
    (
        String::from_utf8_lossy(&body[..end]).into_owned(),
        &body[end + 1..],
    )
}

/// What the client says is only listened to.
fn heard(kind: u8, body: &[u8], talk: &mut Talk) {
    match kind {
        b'D' if body[0] == b'S' => talk.described.push_back(word(&body[1..]).0),
        b'B' => {
            let (_, rest) = word(body);
            talk.bound.push_back(word(rest).0);
        }
        _ => {}
    }
}

/// What the server says is passed on, or something else is.
fn told(kind: u8, body: &[u8], talk: &mut Talk, dice: &mut Dice, lies: u64) -> Vec<u8> {
    let as_it_is = message(kind, body);
    match kind {
        b'T' => {
            if let Some(name) = talk.described.pop_front() {
                let (mut rest, mut types) = (&body[2..], Vec::new());
                while !rest.is_empty() {
                    let (_, after) = word(rest);
                    types.push(u32::from_be_bytes(after[6..10].try_into().unwrap()));
                    rest = &after[18..];
                }
                talk.columns.insert(name, types);
            }
            as_it_is
        }
        b'n' => {
            talk.described.pop_front();
            as_it_is
        }
        b'D' => {
            let types = talk.bound.front().and_then(|name| talk.columns.get(name));
            let (Some(types), true) = (types, dice.one_in(lies)) else {
                return as_it_is;
            };
            if dice.one_in(8) {
                return Vec::new();
            }
            let mut values = fields(body);
            for (value_now, of) in values.iter_mut().zip(types) {
                if dice.one_in(2) {
                    *value_now = value(*of, dice);
                }
            }
            if dice.one_in(16) {
                values.pop();
            }
            let changed = row(&values);
            if dice.one_in(8) {
                changed.repeat(2)
            } else {
                changed
            }
        }
        b'C' => {
            let types = talk
                .bound
                .pop_front()
                .and_then(|name| talk.columns.get(&name));
            let mut all = Vec::new();
            if let Some(types) = types.filter(|types| !types.is_empty())
                && dice.one_in(lies)
            {
                for _ in 0..dice.below(3) {
                    let made: Vec<_> = types.iter().map(|of| value(*of, dice)).collect();
                    all.extend(row(&made));
                }
            }
            all.extend(as_it_is);
            all
        }
        b'E' => {
            talk.bound.pop_front();
            as_it_is
        }
        _ => as_it_is,
    }
}

async fn next(from: &mut (impl AsyncReadExt + Unpin)) -> Option<(u8, Vec<u8>)> {
    let kind = from.read_u8().await.ok()?;
    let length = from.read_u32().await.ok()?;
    let mut body = vec![0; usize::try_from(length).ok()?.checked_sub(4)?];
    from.read_exact(&mut body).await.ok()?;
    Some((kind, body))
}

/// A port that leads to `server`; the first `honest` messages of each connection are.
async fn lying(server: u16, seed: u64, honest: u64, lies: u64) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut connections = 0;
        while let Ok((client, _)) = listener.accept().await {
            connections += 1;
            let mut dice = Dice::new(seed * 1_000 + connections);
            tokio::spawn(async move {
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else {
                    return;
                };
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) = server.into_split();
                let talk = Arc::new(Mutex::new(Talk::default()));
                let listening = Arc::clone(&talk);
                let ask = async move {
                    // The first message has no kind.
                    let length = from_client.read_u32().await.ok()?;
                    let mut body = vec![0; usize::try_from(length).ok()?.checked_sub(4)?];
                    from_client.read_exact(&mut body).await.ok()?;
                    to_server.write_all(&length.to_be_bytes()).await.ok()?;
                    to_server.write_all(&body).await.ok()?;
                    while let Some((kind, body)) = next(&mut from_client).await {
                        heard(kind, &body, &mut listening.lock().unwrap());
                        to_server.write_all(&message(kind, &body)).await.ok()?;
                    }
                    Some(())
                };
                let answer = async move {
                    let mut said = 0;
                    while let Some((kind, body)) = next(&mut from_server).await {
                        said += 1;
                        let lies = if said > honest { lies } else { u64::MAX };
                        let all = told(kind, &body, &mut talk.lock().unwrap(), &mut dice, lies);
                        to_client.write_all(&all).await.ok()?;
                    }
                    Some(())
                };
                tokio::select! {
                    _ = ask => {}
                    _ = answer => {}
                }
            });
        }
    });
    port
}

/// The same URL at another port, without TLS.
fn at_port(url: &str, port: u16) -> String {
    let mut url = url::Url::parse(url).unwrap();
    url.set_port(Some(port)).unwrap();
    url.set_query(Some("sslmode=disable"));
    url.to_string()
}

fn port(url: &str) -> u16 {
    url::Url::parse(url).unwrap().port().unwrap()
}

/// What a session of the watcher asks, of a server that lies in every second row.
#[tokio::test]
async fn whoever_watches_survives_every_answer() {
    let db = fresh_database(17).await;
    let mut answered = 0;
    for seed in 1..=8 {
        // The session is opened first, which takes about ninety messages.
        let port = lying(port(&db.url), seed, 110, 2).await;
        let dial = Dial::resolve(Some(&at_port(&db.url, port)), &|_| None).unwrap();
        let session = Session::open(&dial, "maint test").await.unwrap();
        for round in 0..8 {
            let pids = [session.pid, 0, round];
            let answers = [
                watch::blockers(&session, &pids).await.map(|all| all.len()),
                watch::waiters(&session, &pids, 0)
                    .await
                    .map(|all| all.len()),
                watch::lock_holders(&session, 1259, 0, true)
                    .await
                    .map(|all| all.len()),
                watch::old_transaction(&session, 0, true, 0)
                    .await
                    .map(|one| usize::from(one.is_some())),
                watch::progress(&session, &pids).await.map(|all| all.len()),
                watch::holding_up_wraparound(&session, &pids)
                    .await
                    .map(|all| all.len()),
            ];
            answered += answers.iter().filter(|one| matches!(one, Ok(1..))).count();
            for error in answers.into_iter().filter_map(Result::err) {
                assert!(!error.to_string().is_empty());
            }
        }
    }
    assert!(
        answered > 5,
        "the server lies: {answered} answers that nobody gave"
    );
}

/// Every command that asks a server: it ends as it always does, with what went wrong.
// The program is waited for in one thread, and lied to in another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_command_panics_at_what_a_server_says() {
    let db = fresh_database(17).await;
    db.execute("CREATE EXTENSION amcheck; CREATE EXTENSION pgstattuple;
        CREATE TABLE parent (id int PRIMARY KEY); INSERT INTO parent SELECT generate_series(1, 50);
        CREATE TABLE old (id int PRIMARY KEY, parent_id int REFERENCES parent, at timestamptz NOT NULL); CREATE INDEX ON old (at);
        INSERT INTO old SELECT n, n % 50 + 1, now() - n * interval '1 day' FROM generate_series(1, 400) n;
        CREATE TABLE part (id int, at timestamptz NOT NULL) PARTITION BY RANGE (at); CREATE TABLE part_rest PARTITION OF part DEFAULT;
        CREATE MATERIALIZED VIEW v AS SELECT * FROM parent; CREATE UNIQUE INDEX ON v (id); ANALYZE").await;
    for seed in 1..=3 {
        // Some lie from the first answer on, most once they are trusted.
        let honest = [0, 110, 130, 170][seed as usize % 4];
        let port = lying(port(&db.url), seed, honest, 3 + seed % 5).await;
        let files = tempfile::tempdir().unwrap();
        let mut workspace = Workspace::new(&format!(
            "history: sqlite:maint.db\ntargets:\n  app: {{ engine: postgres, url: \"{}\" }}\n",
            at_port(&db.url, port)
        ));
        let limits = "limits: { budget: 5s, lock_timeout: 200ms, lock_retries: 0, transaction_wait: 1s, max_block: 100ms }\n";
        let kinds = [
            ("cleanup", "rules: [{ table: public.old, column: at, older_than: 390d }, { table: public.old, orphaned: { columns: [parent_id], parent: public.parent } }]".to_owned()),
            ("archive", format!("table: public.old, column: at, older_than: 395d, destination: {{ files: \"file://{}\" }}", files.path().display())),
            ("partitions", "tables: [public.part], interval: month, ahead: 1, move_default_rows: true".to_owned()),
            ("sql", "statements: [{ name: pause, sql: SELECT pg_catalog.pg_sleep(0.3) }]".to_owned()),
            ("integrity", "validate: true".to_owned()),
            ("reindex", "min_size: 8kB, method: exact".to_owned()),
            ("refresh", "always: true".to_owned()),
            ("repack", "min_size: 8kB".to_owned()),
            ("analyze", String::new()),
            ("vacuum", String::new()),
            ("snapshot", String::new()),
        ];
        for (kind, options) in &kinds {
            let exclude = match *kind {
                "reindex" | "analyze" | "vacuum" | "integrity" | "repack" => {
                    "include: [\"public.*\"], "
                }
                _ => "",
            };
            workspace = workspace.task(
                kind,
                &format!("kind: {kind}\ntarget: app\noptions: {{ {exclude}{options} }}\n{limits}"),
            );
        }
        let names = kinds.each_ref().map(|(kind, _)| *kind);
        // A few kinds each: a lie goes a long way.
        let few = names.into_iter().skip(seed as usize - 1).step_by(4);
        for args in [
            ["plan"].into_iter().chain(few.clone()).collect::<Vec<_>>(),
            ["run", "--now"].into_iter().chain(few).collect(),
            if seed % 2 == 0 {
                vec!["doctor"]
            } else {
                vec!["check", "--connect"]
            },
        ] {
            let mut command = workspace.command(&args);
            // Whoever believes a lie about time may wait for long; that is no panic.
            command.timeout(std::time::Duration::from_secs(5));
            let output = command.output().unwrap();
            let said = format!(
                "{}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
            assert!(
                !said.contains("panicked at"),
                "seed {seed}, {args:?}:\n{said}"
            );
            let code = output.status.code();
            assert!(
                matches!(code, None | Some(0..=5)),
                "seed {seed}, {args:?}: {code:?}\n{said}"
            );
        }
    }
}
