//! What a person reads when a server cannot be reached.

use mongodb::bson::doc;

use super::{run, workspace};
use crate::support::mongo::{PASSWORD, Servers, shared_set};

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
    let doctor = workspace.run(["doctor"]);
    assert!(doctor.stdout.contains("readWrite"), "{doctor:#?}");
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
