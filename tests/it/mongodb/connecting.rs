//! What a person reads when a server cannot be reached.

use mongodb::bson::doc;

use super::{run, workspace};
use crate::connect::certificates::Authority;
use crate::support::mongo::{PASSWORD, Servers, TestBase, shared_set};
use crate::support::patience::Patience;
use crate::support::wire::{Mode, Wire};

/// What `maint check --connect` says of this URL; never a secret.
#[track_caller]
fn refusal(url: &str) -> String {
    let output = workspace(url).run(["check", "--connect"]);
    assert_ne!(output.code, 0, "{output:#?}");
    let text = format!("{}{}", output.stdout, output.stderr);
    for secret in [PASSWORD, "q9z", "z9q"] {
        assert!(!text.contains(secret), "{text}");
    }
    text
}

#[track_caller]
fn says(url: &str, words: &[&str]) {
    let text = refusal(url);
    for word in words {
        assert!(text.contains(word), "`{word}` is not in:\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_says_what_it_is_and_what_helps() {
    let set = shared_set(60);
    let (good, ca) = (
        set.maint_url("shop"),
        set.path().join("ca.pem").display().to_string(),
    );
    let wait = "&serverSelectionTimeoutMS=2500";
    says(
        "mongodb://maint:q9zsecretz9q@no-such-host.invalid/shop?serverSelectionTimeoutMS=1000",
        &["there is no host of that name", "spelling"],
    );
    says(
        "mongodb+srv://maint:q9zsecretz9q@no-such-host.invalid/shop",
        &[
            "there is no SRV record",
            "no-such-host.invalid",
            "named one by one",
        ],
    );
    says(
        "mongodb://maint:q9zsecretz9q@127.0.0.1:1/shop?serverSelectionTimeoutMS=1000",
        &["connection refused", "mongod"],
    );
    says(
        &good.replace("%3Az9q", "%3Awrong"),
        &["authentication failed", "authSource"],
    );
    says(
        &(good.replace("replicaSet=rs0", "replicaSet=other") + wait),
        &["another replica set than `rs0`", "replicaSet=rs0"],
    );
    says(
        &(good.replace(&format!("&tlsCAFile={ca}"), "") + wait),
        &[
            "certificate is not trusted",
            "unknown authority",
            "tlsCAFile",
        ],
    );
    says(
        &(good.replace(&format!("&tls=true&tlsCAFile={ca}"), "") + wait),
        &["accepts nothing but TLS", "tls=true"],
    );
    says(
        &good.replace("/shop?", "/?"),
        &["does not say which database", "/DATABASE"],
    );
    let alone = Servers::alone(60);
    let plain = alone.url(None, "shop", "serverSelectionTimeoutMS=2500");
    says(
        &format!("{plain}&tls=true"),
        &["does not offer TLS", "tls=false"],
    );
    says(
        &format!("{plain}&replicaSet=rs0"),
        &["belongs to none", "leave replicaSet out"],
    );
    workspace(&good).run(["check", "--connect"]).expect(0);
    workspace(&plain).run(["check", "--connect"]).expect(0);
}

/// Files that a URL names for TLS are told before anybody connects, and never in the driver's words;
/// so is a certificate that nobody verifies.
#[tokio::test(flavor = "multi_thread")]
async fn files_of_tls_are_looked_at() {
    let set = shared_set(60);
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let good = set.maint_url("shop");
    let ca = set.path().join("ca.pem").display().to_string();
    let key = file("key.pem", "-----BEGIN PRIVATE KEY-----\n");
    let gone = folder.path().join("gone.pem").display().to_string();
    for (url, words) in [
        (
            good.replace(&ca, &key),
            format!("`tlsCAFile` {key}: it holds no certificate"),
        ),
        (
            good.replace(&ca, &gone),
            format!("`tlsCAFile` {gone}: there is no such file"),
        ),
        (
            format!("{good}&tlsCertificateKeyFile={key}"),
            format!("`tlsCertificateKeyFile` {key}: it holds no certificate"),
        ),
    ] {
        let check = workspace(&url).run(["check"]).expect(0);
        assert!(check.stdout.contains(&words), "{check:#?}");
        says(&url, &[&words, "expected"]);
        let refused = refusal(&url);
        assert!(
            !refused.contains("Kind:") && !refused.contains("labels"),
            "{refused}"
        );
    }
    let encrypted = format!("{good}&tlsCertificateKeyFile={ca}&tlsCertificateKeyFilePassword=q9z");
    says(
        &encrypted,
        &["tlsCertificateKeyFilePassword", "openssl pkey"],
    );
    // Nobody verifies who answers.
    let insecure = good.replace(
        &format!("&tlsCAFile={ca}"),
        "&tlsAllowInvalidCertificates=true",
    );
    for verb in ["check", "doctor"] {
        let told = workspace(&insecure).run([verb]);
        let words = told.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains("certificate is not verified"), "{told:#?}");
    }
    let verified = workspace(&good).run(["check"]).expect(0);
    assert!(!verified.stdout.contains("note:"), "{verified:#?}");
}

/// Who comes with a certificate may write his name into the URL, as other clients take it.
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_logs_in_with_and_without_a_name_in_the_url() {
    let base = TestBase::new(60).await;
    let set = base.servers;
    let client = set.authority().client("maint_by_certificate");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("client.pem");
    let both = format!("{}{}", client.certificate_pem, client.key_pem);
    std::fs::write(&path, both).unwrap();
    let external = set.root().await.database("$external");
    let subject = "CN=maint_by_certificate";
    let create = doc! {
        "createUser": subject, "roles": [{ "role": "readWrite", "db": &base.name }],
        "writeConcern": { "w": "majority", "wtimeout": 15_000 },
    };
    external.run_command(create).await.unwrap();
    // One of an authority that the server does not know is not the server's fault.
    let stranger = Authority::new("another authority").client("maint_by_certificate");
    let strange = folder.path().join("stranger.pem");
    let both = format!("{}{}", stranger.certificate_pem, stranger.key_pem);
    std::fs::write(&strange, both).unwrap();
    let url = set.url(None, &base.name, "&serverSelectionTimeoutMS=2500");
    let url = url.replace("authSource=admin", "authSource=$external");
    let with = format!(
        "{url}&authMechanism=MONGODB-X509&tlsCertificateKeyFile={}",
        strange.display()
    );
    says(
        &with,
        &[
            "does not take the certificate in `tlsCertificateKeyFile`",
            "net.tls.CAFile",
        ],
    );
    let url = |name: &str| {
        let url = set.url(None, &base.name, "");
        let url = url.replace("authSource=admin", "authSource=$external");
        let url = url.replace("mongodb://", &format!("mongodb://{name}"));
        format!(
            "{url}&authMechanism=MONGODB-X509&tlsCertificateKeyFile={}",
            path.display()
        )
    };
    for name in ["", "CN%3Dmaint_by_certificate@"] {
        workspace(&url(name)).run(["check", "--connect"]).expect(0);
        // What is missing is granted where the user lives.
        let doctor = workspace(&url(name)).task(
            "ttl",
            "kind: cleanup\ntarget: app\noptions: { ttl: [{ collection: a, field: at, expire_after: 1h }] }\n",
        );
        let told = doctor.run(["doctor"]).expect(1);
        let words = told.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            words.contains(
                "getSiblingDB(\"$external\").grantRolesToUser(USER, [{ role: \"dbAdmin\""
            ),
            "{told:#?}"
        );
    }
    external
        .run_command(doc! { "dropUser": subject })
        .await
        .unwrap();
    says(&url(""), &["authentication failed", "`$external`"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_says_nothing_is_told_from_one_that_refuses() {
    let alone = Servers::alone(60);
    let wire = Wire::to(alone.port(0)).await;
    wire.set(Mode::Stall);
    says(
        &format!(
            "mongodb://127.0.0.1:{}/shop?serverSelectionTimeoutMS=1500",
            wire.port
        ),
        &["no answer", "connectTimeoutMS"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_that_has_lost_its_majority_has_no_primary() {
    let mut set = Servers::set(44).await;
    set.whole().await;
    let primary = set.primary().await;
    for n in (0..3).filter(|n| *n != primary) {
        set.kill(n);
    }
    // It takes the last one a while to see that it is alone.
    let admin = set.direct(primary, Some("root")).await.database("admin");
    let patience = Patience::until("a primary that steps down");
    while admin
        .run_command(doc! { "hello": 1 })
        .await
        .is_ok_and(|hello| hello.get_bool("isWritablePrimary").unwrap())
    {
        patience.pause().await;
    }
    says(
        &(set.maint_url("shop") + "&serverSelectionTimeoutMS=2500"),
        &["no primary", "rs.status()"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_host_is_told() {
    let set = shared_set(60);
    let port = set.port(0);
    let ca = set.path().join("ca.pem").display().to_string();
    says(
        &format!(
            "mongodb://maint:q9z@127.0.0.2:{port}/shop?tls=true&tlsCAFile={ca}&serverSelectionTimeoutMS=1500"
        ),
        &["127.0.0.2"],
    );
}

/// The URL of an application may prefer secondaries, and ask for no confirmation.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_application_prefers_keeps_no_task_from_its_work() {
    for version in [44, 60] {
        let base = TestBase::new(version).await;
        let documents = (0..50).map(|n| doc! { "_id": n, "old": n < 20 });
        base.collection("a").insert_many(documents).await.unwrap();
        let url = format!(
            "{}&readPreference=secondaryPreferred&w=0&readConcernLevel=available&compressors=snappy,zlib",
            base.url()
        );
        let workspace = workspace(&url)
            .task(
                "archive",
                "kind: archive\ntarget: app\noptions:\n  rules: [{ collection: a, where: { old: true } }]\n  destination: { collection: kept }\n",
            )
            .task(
                "refresh",
                "kind: refresh\ntarget: app\noptions:\n  aggregations: [{ collection: a, pipeline: [{ $group: { _id: $old, n: { $sum: 1 } } }, { $merge: sums }] }]\n",
            );
        let done = run(&workspace, "archive", 0);
        assert_eq!(done["rows"], 20, "{done:#}");
        assert_eq!(base.count("kept", doc! {}).await, 20);
        assert_eq!(base.count("a", doc! {}).await, 30);
        let plan = workspace
            .run(["plan", "refresh", "--output", "json"])
            .expect(0)
            .json();
        assert!(plan.to_string().contains("secondaryPreferred"), "{plan:#}");
        run(&workspace, "refresh", 0);
        let sums = base.collection("sums");
        let sum = sums.find_one(doc! { "_id": false }).await.unwrap().unwrap();
        assert_eq!(sum.get_i32("n").unwrap(), 30);
        let again = run(&workspace, "archive", 0);
        assert!(again["steps"].as_array().unwrap().is_empty(), "{again:#}");
        let report = workspace.run(["report"]).expect(0).stdout;
        assert!(
            report.contains("documents removed") && !report.contains("rows removed"),
            "{report}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_lets_in() {
    let set = shared_set(60);
    let root = set.root().await;
    let name = "CN=maint-x509";
    let create = doc! { "createUser": name, "roles": [{ "role": "readWrite", "db": "x509" }] };
    root.database("$external")
        .run_command(create)
        .await
        .unwrap();
    let identity = set.authority().client("maint-x509");
    let path = set.path().join("client.pem");
    std::fs::write(
        &path,
        format!("{}{}", identity.certificate_pem, identity.key_pem),
    )
    .unwrap();
    let url = set
        .url(
            None,
            "x509",
            &format!(
                "&authMechanism=MONGODB-X509&tlsCertificateKeyFile={}",
                path.display()
            ),
        )
        .replace("authSource=admin", "authSource=$external");
    root.database("x509")
        .collection("a")
        .insert_one(doc! { "_id": 1, "x": 1 })
        .await
        .unwrap();
    let workspace = workspace(&url).task(
        "cleanup",
        "kind: cleanup\ntarget: app\noptions: { rules: [{ collection: a, where: { x: 1 } }] }\n",
    );
    let done = run(&workspace, "cleanup", 0);
    assert_eq!(done["rows"], 1, "{done:#}");
    let codes = super::codes(&done);
    assert_eq!(
        codes,
        ["privilege.missing"],
        "the state of the members is not this user's to see"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_allowed_names_the_role() {
    let set = shared_set(60);
    let root = set.root().await;
    let create = doc! { "createUser": "reader", "pwd": PASSWORD, "roles": [{ "role": "read", "db": "readonly" }] };
    root.database("admin").run_command(create).await.unwrap();
    root.database("readonly")
        .collection("a")
        .insert_one(doc! { "_id": 1, "x": 1 })
        .await
        .unwrap();
    let workspace = workspace(&set.url(Some("reader"), "readonly", "")).task(
        "cleanup",
        "kind: cleanup\ntarget: app\noptions: { rules: [{ collection: a, where: { x: 1 } }] }\n",
    );
    let output = workspace.run(["run", "cleanup", "--now"]).expect(1);
    let text = format!("{}{}", output.stdout, output.stderr);
    assert!(
        text.contains("not authorised for `findAndModify`"),
        "{text}"
    );
    let doctor = workspace.run(["doctor"]).expect(1);
    let words = doctor
        .stdout
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    for part in [
        "problem app: no task can run: every run is claimed in readonly.maint.claims, and the user lacks insert, update, remove there",
        "grantRolesToUser(USER, [{ role: \"readWrite\", db: \"readonly\" }])",
    ] {
        assert!(words.contains(part), "{doctor:#?}");
    }
    assert!(!words.contains("works: "), "{doctor:#?}");
    // Rights on that collection alone are enough for what only reads.
    let claims = doc! {
        "createRole": "claims",
        "privileges": [{ "resource": { "db": "readonly", "collection": "maint.claims" }, "actions": ["find", "insert", "update", "remove"] }],
        "roles": [],
    };
    root.database("admin").run_command(claims).await.unwrap();
    let grant = doc! { "grantRolesToUser": "reader", "roles": ["claims"] };
    root.database("admin").run_command(grant).await.unwrap();
    let workspace = self::workspace(&set.url(Some("reader"), "readonly", "")).task(
        "integrity",
        "kind: integrity\ntarget: app\noptions: { validate: off }\n",
    );
    let doctor = workspace.run(["doctor"]);
    assert!(!doctor.stdout.contains("no task can run"), "{doctor:#?}");
    // Then tasks are tried again, and told of.
    assert!(
        doctor.stdout.contains("app: integrity: readonly"),
        "{doctor:#?}"
    );
    let ran = workspace.run(["run", "integrity", "--now"]);
    assert!(!ran.stdout.contains("findAndModify"), "{ran:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_lists_the_members() {
    let set = shared_set(60);
    let shop = set.root().await.database("shop");
    let orders = shop.collection::<mongodb::bson::Document>("orders");
    orders.insert_one(doc! { "x": 1 }).await.unwrap();
    let output = workspace(&set.maint_url("shop")).run(["doctor"]).expect(0);
    for n in 0..3 {
        assert!(output.stdout.contains(&set.address(n)), "{output:#?}");
    }
    for word in [
        "MongoDB 6.0",
        "feature compatibility 6.0",
        "PRIMARY",
        "SECONDARY",
        "TTL monitor",
    ] {
        assert!(output.stdout.contains(word), "{word}: {output:#?}");
    }
}

/// Who may not even claim a task can be reached, and nothing can run: that is no fine target.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_may_claim_nothing_is_told_without_a_run() {
    let set = shared_set(60);
    let admin = set.root().await.database("admin");
    let majority = doc! { "w": "majority" };
    for (user, role) in [("onlyreads", "read"), ("writes", "readWrite")] {
        let roles = vec![doc! { "role": role, "db": "claimless" }];
        let create = doc! { "createUser": user, "pwd": PASSWORD, "roles": roles, "writeConcern": majority.clone() };
        admin.run_command(create).await.unwrap();
    }
    says(
        &set.url(Some("onlyreads"), "claimless", ""),
        &[
            "claiming a task",
            "maint doctor",
            "readWrite",
            "grantRolesToUser",
        ],
    );
    let url = set.url(Some("writes"), "claimless", "");
    let fine = workspace(&url).run(["check", "--connect"]).expect(0);
    let words = "lacks rights that some kinds need: `maint doctor`";
    assert!(fine.stdout.contains(words), "{fine:#?}");
    for user in ["onlyreads", "writes"] {
        admin.run_command(doc! { "dropUser": user }).await.unwrap();
    }
}

/// Who does not log in is told so, and not that everything may be done, or a role is missing.
#[tokio::test(flavor = "multi_thread")]
async fn who_names_no_user_is_told_so() {
    for version in [44, 60] {
        let set = shared_set(version);
        let url = set.url(None, "shop", "");
        let words = ["the URL names no user", "mongodb://USER:PASSWORD@host"];
        says(&url, &words);
        let there = workspace(&url).task("look", "kind: snapshot\ntarget: app\n");
        let told = there.run(["doctor"]).expect(3).stdout;
        assert!(told.contains("names no user"), "{told}");
        assert!(!told.contains("may do everything"), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_a_secondary_alone_is_told_so() {
    let set = shared_set(60);
    let base = TestBase::new(60).await;
    let away = (set.primary().await + 1) % 3;
    let all: Vec<String> = (0..3).map(|n| set.address(n)).collect();
    let url = base.url().replace(&all.join(","), &set.address(away));
    let url = url.replace("replicaSet=rs0", "directConnection=true");
    let said = workspace(&url)
        .task("look", "kind: snapshot\ntarget: app\n")
        .run(["run", "look", "--now"])
        .expect(3);
    let text = format!("{}{}", said.stdout, said.stderr);
    for word in ["is not the primary", "directConnection=true"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert!(!text.contains("has no primary"), "{text}");
    let there = workspace(&url).task("look", "kind: snapshot\ntarget: app\n");
    for verb in [&["check", "--connect"][..], &["plan", "look"]] {
        let said = there.run(verb).expect(3);
        let text = format!("{}{}", said.stdout, said.stderr);
        assert!(text.contains("is not the primary"), "{verb:?}: {text}");
    }
}

/// As through a tunnel: the names that the set has for its members lead nowhere from here, and the only
/// way there is the one that the URL names.
#[tokio::test(flavor = "multi_thread")]
async fn members_whose_names_lead_nowhere_are_named() {
    let set = Servers::single(60).await;
    let client = set.direct(0, None).await;
    let a = client
        .database("shop")
        .collection::<mongodb::bson::Document>("a");
    a.insert_many((0..10).map(|n| doc! { "_id": n }))
        .await
        .unwrap();
    let wire = Wire::to(set.port(0)).await;
    let name = set.address(0);
    let far = name.replace("127.0.0.1", "127.0.0.9");
    wire.heard(name.as_bytes(), far.as_bytes());
    let url = |more: &str| {
        format!(
            "mongodb://127.0.0.1:{}/shop?serverSelectionTimeoutMS=2500{more}",
            wire.port
        )
    };
    let calls = format!("is the primary, and the replica set calls it {far}");
    let why = format!("{far}: connection refused");
    for more in ["", "&replicaSet=one"] {
        let words = [calls.as_str(), why.as_str(), "directConnection=true"];
        says(&url(more), &words);
        assert!(!refusal(&url(more)).contains("has no primary"));
    }
    says(&url("&loadBalanced=true"), &["is no load balancer"]);
    // The member that we talk to is asked by the way that we came.
    let mut there = workspace(&url("&directConnection=true"));
    for (kind, options) in [
        ("snapshot", ""),
        ("integrity", ""),
        (
            "compact",
            "options: { min_free: 1B, min_share: 0%, step_down: true }\n",
        ),
    ] {
        there = there.task(kind, &format!("kind: {kind}\ntarget: app\n{options}"));
        let done = run(&there, kind, 0);
        assert!(
            !done["findings"].to_string().contains("member.down"),
            "{done:#}"
        );
        if kind == "integrity" {
            let steps = done["steps"].as_array().unwrap();
            let seen = steps.iter().filter(|step| step["status"] == "succeeded");
            assert!(seen.count() > 0, "{done:#}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_case_of_the_databases_name_is_told_so() {
    let base = TestBase::new(60).await;
    base.collection("a")
        .insert_one(doc! { "_id": 1 })
        .await
        .unwrap();
    let url = base.url().replace(&base.name, &base.name.to_uppercase());
    let there = workspace(&url).task(
        "sweep",
        "kind: cleanup\ntarget: app\noptions: { rules: [{ collection: a, where: { x: 1 } }] }\n",
    );
    let failed = run(&there, "sweep", 1);
    let said = failed["error"].as_str().unwrap();
    assert!(said.contains("upper and lower case only"), "{failed:#}");
    for verb in [&["check", "--connect"][..], &["plan", "sweep"], &["doctor"]] {
        let said = there.run(verb);
        let text = format!("{}{}", said.stdout, said.stderr);
        assert!(said.code != 0, "{verb:?}: {text}");
        assert!(
            text.contains("upper and lower case only"),
            "{verb:?}: {text}"
        );
    }
}

/// A server that demands a certificate ends the handshake: the option that names one is said.
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_the_server_demands_is_named() {
    for version in [44, 60] {
        let server = Servers::demanding(version);
        let client = server.authority().client("maint");
        let folder = tempfile::tempdir().unwrap();
        let (ca, key) = (folder.path().join("ca.pem"), folder.path().join("key.pem"));
        std::fs::write(&ca, &server.authority().certificate_pem).unwrap();
        let both = format!("{}{}", client.certificate_pem, client.key_pem);
        std::fs::write(&key, both).unwrap();
        let url = format!(
            "mongodb://{}/app?directConnection=true&tls=true&tlsCAFile={}&serverSelectionTimeoutMS=2500",
            server.address(0),
            ca.display()
        );
        says(
            &url,
            &[
                "demands a client certificate, and the URL names none",
                "tlsCertificateKeyFile=FILE",
            ],
        );
        let with = format!("{url}&tlsCertificateKeyFile={}", key.display());
        workspace(&with).run(["check", "--connect"]).expect(0);
    }
}
