//! Several recipients, of which one does not exist, or has to wait.

use chrono::{TimeDelta, Utc};
use mail_parser::MessageParser;
use maint::history::{Letter, open};
use maint::notify::{Delivered, Delivery, Mail, deliver};
use uuid::Uuid;

use super::server::{Fault, MailServer, PASSWORD};
use crate::support::workspace::Workspace;

#[test]
fn one_refused_recipient_stops_nobody_else() {
    let server = MailServer::start(Fault::Gone);
    let url = server.url("smtp", PASSWORD, "");
    for to in [
        "[gone@example.com, dba@example.com]",
        "[dba@example.com, gone@example.com]",
    ] {
        let before = server.mails().len();
        let workspace = Workspace::new(&format!(
            "history: sqlite:maint.db\nsmtp: {{ url: \"{url}\", from: maint@example.com }}\n\
             notify: {{ on: [failed], email: {{ to: {to} }} }}\n\
             targets:\n  app: {{ engine: postgres, url: \"postgres://127.0.0.1:1/d?sslmode=disable\" }}\n"
        ))
        .task("analyze", "kind: analyze\ntarget: app\n");
        let ran = workspace.run(["run", "analyze", "--now"]).expect(3);
        assert!(ran.stderr.contains("gone@example.com"), "{ran:#?}");
        let mails = server.mails();
        assert_eq!(mails.len(), before + 1, "{ran:#?}");
        // It is not sent to the first again; what is left is for the other alone.
        let again = workspace.run(["run", "analyze", "--now"]).expect(3);
        assert_eq!(server.mails().len(), before + 1, "{again:#?}");
    }
    let workspace = Workspace::new(&format!(
        "history: sqlite:maint.db\nsmtp: {{ url: \"{url}\", from: maint@example.com }}\n\
         notify: {{ on: [failed], email: {{ to: [gone@example.com, dba@example.com] }} }}\n\
         targets:\n  app: {{ engine: postgres, url: \"postgres://127.0.0.1:1/d\" }}\n"
    ));
    let tried = workspace.run(["notify", "test"]).expect(1);
    assert!(
        tried.stdout.contains("sent, but not to everybody"),
        "{tried:#?}"
    );
}

/// Greylisting is the ordinary answer to the first mail for somebody.
#[tokio::test]
async fn who_is_asked_to_wait_gets_it_soon_and_nobody_gets_it_twice() {
    let server = MailServer::start(Fault::Some);
    let now = Utc::now();
    let address = |name: &str| format!("{name}@example.com").parse().unwrap();
    let mail = Mail {
        to: vec![address("slow"), address("dba"), address("gone")],
        cc: vec![address("boss")],
        subject: "news".to_owned(),
        ..Mail::default()
    };
    let letter = Letter {
        id: Uuid::now_v7(),
        created_at: now,
        channel: "email".to_owned(),
        body: serde_json::to_value(mail).unwrap(),
        attempts: 0,
        next_attempt_at: now,
        last_error: None,
    };
    let store = open("sqlite::memory:").await.unwrap();
    assert!(store.post(&[], &[letter]).await.unwrap());
    let delivery = Delivery {
        smtp: Some((server.smtp(), address("maint"))),
        ..Delivery::default()
    };
    let after = async |minutes| {
        let done = deliver(&delivery, store.as_ref(), now + TimeDelta::minutes(minutes)).await;
        done.unwrap()
    };
    let got = || {
        let mut got: Vec<String> = server.mails().iter().map(|mail| recipients(mail)).collect();
        got.sort();
        got
    };
    let done = after(0).await;
    assert_eq!(got(), ["boss@example.com", "dba@example.com"], "{done:?}");
    let said = |done: &Delivered, who: &str, later: bool| {
        let about = done.problems.iter().find(|one| one.contains(who));
        let about = about.unwrap_or_else(|| panic!("{who}: {done:?}"));
        assert_eq!(about.ends_with("tried again later"), later, "{about}");
    };
    said(&done, "slow@example.com", true);
    said(&done, "gone@example.com", false);
    // That some have not got it is told, though others have.
    let tomorrow = now + TimeDelta::days(1);
    let stuck = store.stuck_letters(now, tomorrow).await.unwrap();
    let why: Vec<_> = stuck
        .iter()
        .filter_map(|one| one.last_error.as_deref())
        .collect();
    assert_eq!(why.len(), 2, "{stuck:?}");
    assert!(
        why.iter().any(|why| why.contains("gone@example.com")),
        "{why:?}"
    );
    // Like any other that waits: after a minute, and alone.
    let all = ["boss@example.com", "dba@example.com", "slow@example.com"];
    let done = after(2).await;
    assert_eq!(
        (done.sent, &got()[..]),
        (1, &all.map(str::to_owned)[..]),
        "{done:?}"
    );
    assert!(done.problems.is_empty(), "{done:?}");
    for minutes in [40, 80, 120, 160, 3000] {
        let done = after(minutes).await;
        assert_eq!((done.sent, got().len()), (0, 3), "{done:?}");
    }
}

/// Whom aiosmtpd says that it took a mail for.
fn recipients(mail: &[u8]) -> String {
    let parsed = MessageParser::default().parse(mail).unwrap();
    let to = parsed.header_raw("X-RcptTo").unwrap();
    to.trim().to_owned()
}
