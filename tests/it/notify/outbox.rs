use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use mail_parser::{MessageParser, MimeHeaders};
use maint::config::{Webhook, WebhookFormat};
use maint::history::{Letter, Notice, Store, open};
use maint::notify::{Delivery, Mail, Outcome, Picture, Smtp, deliver};
use maint::values::Secret;
use uuid::Uuid;

use super::server::{Fault, MailServer, PASSWORD};

fn mail(subject: &str) -> Mail {
    Mail {
        to: vec![
            "dba@example.com".parse().unwrap(),
            "Zoë <zoe@example.com>".parse().unwrap(),
        ],
        reply_to: Some("oncall@example.com".parse().unwrap()),
        subject: subject.to_owned(),
        text: "3 Läufe, alles gut\n".to_owned(),
        html: Some("<p>3 Läufe <img src=\"cid:sizes\" alt=\"sizes\"></p>".to_owned()),
        pictures: vec![Picture {
            cid: "sizes".to_owned(),
            png: b"\x89PNG\r\n\x1a\n1234".to_vec(),
        }],
        thread: Some("weekly".to_owned()),
        ..Mail::default()
    }
}

fn letter(channel: &str, body: serde_json::Value, at: DateTime<Utc>) -> Letter {
    Letter {
        id: Uuid::now_v7(),
        created_at: at,
        channel: channel.to_owned(),
        body,
        attempts: 0,
        next_attempt_at: at,
        last_error: None,
    }
}

async fn store_with(mails: &[Mail], at: DateTime<Utc>) -> Arc<dyn Store> {
    let store = open("sqlite::memory:").await.unwrap();
    let letters: Vec<Letter> = mails
        .iter()
        .map(|mail| letter("email", serde_json::to_value(mail).unwrap(), at))
        .collect();
    assert!(store.post(&[], &letters).await.unwrap());
    store
}

/// What is told as not gone out a day later.
async fn stuck(store: &dyn Store, now: DateTime<Utc>) -> Vec<Letter> {
    let since = now - TimeDelta::days(1);
    store.stuck_letters(since, since).await.unwrap()
}

fn by(smtp: Smtp) -> Delivery {
    Delivery {
        smtp: Some((smtp, "maint <maint@example.com>".parse().unwrap())),
        ..Delivery::default()
    }
}

#[tokio::test]
async fn a_mail_arrives_whole_and_once() {
    let server = MailServer::start(Fault::None);
    let now = Utc::now();
    let store = store_with(&[mail("Woche 47: alles gut\r\nBcc: evil@example.com")], now).await;
    let delivery = by(server.smtp());
    assert_eq!(
        deliver(&delivery, store.as_ref(), now).await.unwrap().sent,
        1
    );
    assert_eq!(
        deliver(&delivery, store.as_ref(), now + TimeDelta::days(1))
            .await
            .unwrap()
            .sent,
        0
    );

    let mails = server.mails();
    assert_eq!(mails.len(), 1);
    let parsed = MessageParser::default().parse(&mails[0]).unwrap();
    // The line break did not begin a header.
    assert_eq!(
        parsed.subject(),
        Some("Woche 47: alles gut  Bcc: evil@example.com")
    );
    assert!(parsed.bcc().is_none());
    assert_eq!(
        parsed.from().unwrap().first().unwrap().address(),
        Some("maint@example.com")
    );
    let to: Vec<_> = parsed
        .to()
        .unwrap()
        .iter()
        .map(|a| (a.name(), a.address()))
        .collect();
    assert_eq!(
        to,
        [
            (None, Some("dba@example.com")),
            (Some("Zoë"), Some("zoe@example.com"))
        ]
    );
    assert_eq!(
        parsed.reply_to().unwrap().first().unwrap().address(),
        Some("oncall@example.com")
    );
    assert!(parsed.message_id().unwrap().ends_with("@example.com"));
    assert_eq!(
        parsed.references().as_text(),
        parsed.in_reply_to().as_text()
    );
    assert_eq!(
        parsed.header("Auto-Submitted").unwrap().as_text(),
        Some("auto-generated")
    );
    assert!(
        parsed
            .header_raw("List-Id")
            .unwrap()
            .contains("<maint.example.com>")
    );
    assert_eq!(parsed.body_text(0).unwrap().trim(), "3 Läufe, alles gut");
    assert!(parsed.body_html(0).unwrap().contains("cid:sizes"));
    let picture = parsed.attachments().next().unwrap();
    assert_eq!(picture.content_id(), Some("sizes"));
    assert_eq!(picture.contents(), b"\x89PNG\r\n\x1a\n1234");
    assert!(picture.content_disposition().unwrap().is_inline());
}

#[tokio::test]
async fn every_way_to_say_who_one_is() {
    let server = MailServer::start(Fault::None);
    let now = Utc::now();
    for (n, (scheme, more)) in [
        ("smtp", ""),
        ("smtp", "&auth=plain"),
        ("smtp", "&auth=login"),
        ("smtp", "&auth=xoauth2"),
        ("smtps", ""),
    ]
    .into_iter()
    .enumerate()
    {
        let smtp = Smtp::new(&server.url(scheme, PASSWORD, more)).unwrap();
        let store = store_with(&[mail("hello")], now).await;
        let done = deliver(&by(smtp), store.as_ref(), now).await.unwrap();
        assert_eq!((done.sent, done.problems), (1, vec![]), "{scheme} {more}");
        assert_eq!(server.mails().len(), n + 1);
    }
}

#[tokio::test]
async fn one_conversation_has_one_root() {
    let server = MailServer::start(Fault::None);
    let now = Utc::now();
    let mut other = mail("three");
    other.thread = Some("monthly".to_owned());
    let store = store_with(&[mail("one"), mail("two"), other], now).await;
    deliver(&by(server.smtp()), store.as_ref(), now)
        .await
        .unwrap();
    let mut roots: Vec<(String, String)> = server
        .mails()
        .iter()
        .map(|mail| {
            let parsed = MessageParser::default().parse(mail).unwrap();
            let root = parsed.references().as_text().unwrap().to_owned();
            (parsed.subject().unwrap().to_owned(), root)
        })
        .collect();
    roots.sort();
    let [(_, one), (_, three), (_, two)] = &roots[..] else {
        panic!("{roots:?}");
    };
    assert_eq!(one, two);
    assert_ne!(one, three);
}

#[tokio::test]
async fn greylisted_mail_goes_later_and_once() {
    let server = MailServer::start(Fault::Greylist);
    let now = Utc::now();
    let mut one = mail("patience");
    one.to.truncate(1);
    let store = store_with(&[one], now).await;
    let delivery = by(server.smtp());
    let done = deliver(&delivery, store.as_ref(), now).await.unwrap();
    assert_eq!(done.sent, 0);
    assert!(
        done.problems[0].contains("wants the mail later") && done.problems[0].contains("451"),
        "{:?}",
        done.problems
    );
    assert!(server.mails().is_empty());
    // Not before its time.
    let soon = now + TimeDelta::seconds(30);
    assert_eq!(
        deliver(&delivery, store.as_ref(), soon).await.unwrap().sent,
        0
    );
    let later = now + TimeDelta::minutes(2);
    assert_eq!(
        deliver(&delivery, store.as_ref(), later)
            .await
            .unwrap()
            .sent,
        1
    );
    assert_eq!(
        deliver(&delivery, store.as_ref(), later + TimeDelta::days(1))
            .await
            .unwrap()
            .sent,
        0
    );
    assert_eq!(server.mails().len(), 1);
}

/// A password that expires at night is mended by day: what was refused meanwhile goes then. Nobody is told meanwhile
/// that messages go out, nor for ever that one did not.
#[tokio::test]
async fn what_is_refused_goes_for_three_days_and_is_not_forgotten() {
    let server = MailServer::start(Fault::None);
    let now = Utc::now();
    let wrong = by(Smtp::new(&server.url("smtp", "geheim-falsch", "")).unwrap());
    for (mended_after, sent) in [(TimeDelta::days(2), 1), (TimeDelta::days(4), 0)] {
        let store = store_with(&[mail("hello")], now).await;
        let mut at = now;
        while at < now + mended_after {
            deliver(&wrong, store.as_ref(), at).await.unwrap();
            at += TimeDelta::minutes(30);
        }
        let left = stuck(store.as_ref(), now).await;
        assert_eq!(left.len(), 1);
        let why = left[0].last_error.as_deref().unwrap();
        assert!(why.contains("does not accept user and password"), "{why}");
        let later = at + TimeDelta::hours(5);
        let done = deliver(&by(server.smtp()), store.as_ref(), later).await;
        assert_eq!(done.unwrap().sent, sent);
        // Once something goes out again, what was given up is the past.
        let body = serde_json::to_value(mail("again")).unwrap();
        let next = letter("email", body, later);
        store.post(&[], &[next]).await.unwrap();
        let done = deliver(&by(server.smtp()), store.as_ref(), later).await;
        assert_eq!(done.unwrap().sent, 1);
        let left = stuck(store.as_ref(), now).await;
        assert_eq!(left, []);
    }
}

/// What has failed once is told after a while, also where nobody tries again before the next night.
#[tokio::test]
async fn what_nobody_tries_again_is_told() {
    let server = MailServer::start(Fault::None);
    let now = Utc::now();
    let wrong = by(Smtp::new(&server.url("smtp", "geheim-falsch", "")).unwrap());
    let store = store_with(&[mail("hello")], now).await;
    let told = async |before: DateTime<Utc>| store.stuck_letters(now, before).await.unwrap().len();
    // What nobody has tried yet has not failed.
    assert_eq!(told(now + TimeDelta::days(1)).await, 0);
    deliver(&wrong, store.as_ref(), now).await.unwrap();
    assert_eq!(told(now).await, 0);
    assert_eq!(told(now + TimeDelta::days(1)).await, 1);
}

#[tokio::test]
async fn what_keeps_a_mail_from_going_is_said_without_secrets() {
    let server = MailServer::start(Fault::None);
    let now = Utc::now();
    let closed = format!("smtp://maint:{PASSWORD}@127.0.0.1:1", PASSWORD = "geheim");
    for (url, expected) in [
        (
            server.url("smtp", "geheim-falsch", ""),
            "does not accept user and password of `smtp: url`",
        ),
        (server.untrusting_url(), "is not trusted"),
        (closed, "is out of reach"),
    ] {
        let store = store_with(&[mail("hello")], now).await;
        let done = deliver(&by(Smtp::new(&url).unwrap()), store.as_ref(), now)
            .await
            .unwrap();
        assert_eq!(done.sent, 0);
        assert!(done.problems[0].contains(expected), "{:?}", done.problems);
        assert!(!done.problems[0].contains("geheim"), "{:?}", done.problems);
        // It is kept, and goes once the obstacle is gone.
        let later = now + TimeDelta::hours(1);
        let done = deliver(&by(server.smtp()), store.as_ref(), later)
            .await
            .unwrap();
        assert_eq!(done.sent, 1);
    }
    assert_eq!(server.mails().len(), 3);
}

/// As `openssl req -x509` makes it. libpq and OpenSSL take such a one where it is named.
#[tokio::test]
async fn a_certificate_that_is_its_own_authority_is_taken_where_it_is_named() {
    let good = MailServer::its_own_authority(&["localhost"], false);
    let foreign = MailServer::its_own_authority(&["mail.example"], false);
    let expired = MailServer::its_own_authority(&["localhost"], true);
    let now = Utc::now();
    let sent = async |url: &str| {
        let store = store_with(&[mail("hello")], now).await;
        deliver(&by(Smtp::new(url).unwrap()), store.as_ref(), now)
            .await
            .unwrap()
    };
    for scheme in ["smtp", "smtps"] {
        let url = good.url(scheme, PASSWORD, "");
        let done = sent(&url).await;
        assert_eq!(done.sent, 1, "{:?}", done.problems);
        let said = Smtp::new(&url).unwrap().try_out().await.unwrap();
        assert!(said.ends_with("answers and lets us in"), "{said}");
    }
    assert_eq!(good.mails().len(), 2);
    // Another one is not, nor is this one for another host, or after its time.
    for (url, why) in [
        (good.trusting(&foreign), "is not trusted"),
        (foreign.url("smtp", PASSWORD, ""), "certificate"),
        (expired.url("smtps", PASSWORD, ""), "is not trusted"),
    ] {
        let done = sent(&url).await;
        assert_eq!(done.sent, 0, "{url}");
        assert!(done.problems[0].contains(why), "{:?}", done.problems);
    }
    assert_eq!(good.mails().len(), 2);
    assert!(foreign.mails().is_empty() && expired.mails().is_empty());
}

#[tokio::test]
async fn a_server_that_hangs_holds_nobody_up_for_ever() {
    let server = MailServer::start(Fault::Hang);
    let message = mail("hello").message(
        Uuid::now_v7(),
        &"maint@example.com".parse().unwrap(),
        Utc::now(),
    );
    let outcome = Smtp::new(&server.url("smtp", PASSWORD, "&timeout=1s"))
        .unwrap()
        .send(message.unwrap())
        .await;
    let Outcome::Later(why) = outcome else {
        panic!("{outcome:?}");
    };
    assert!(why.contains("did not take the mail within 1s"), "{why}");
}

#[tokio::test]
async fn notices_are_told_once_whoever_is_faster() {
    let store = open("sqlite::memory:").await.unwrap();
    let now = Utc::now();
    let notice = |task: &str| Notice {
        id: Uuid::now_v7(),
        at: now,
        event: "failed".to_owned(),
        task: task.to_owned(),
        target: "app".to_owned(),
        schedule: None,
        run: None,
        text: "password=geheim".to_owned(),
    };
    store
        .add_notices(&[notice("reindex"), notice("vacuum")])
        .await
        .unwrap();
    let pending = store.pending_notices().await.unwrap();
    assert_eq!(pending.len(), 2);
    let ids: Vec<Uuid> = pending.iter().map(|notice| notice.id).collect();
    let digest = |n: i64| letter("file", serde_json::json!({ "n": n }), now);
    assert!(store.post(&ids[..1], &[digest(1)]).await.unwrap());
    // One of the two has been told by somebody else meanwhile: nothing is posted.
    assert!(!store.post(&ids, &[digest(2)]).await.unwrap());
    assert_eq!(
        store
            .letters_since("file", now - TimeDelta::hours(1))
            .await
            .unwrap(),
        1
    );
    assert_eq!(store.pending_notices().await.unwrap().len(), 1);

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("notices.jsonl");
    let delivery = Delivery {
        file: Some(file.clone()),
        webhook: Some(Webhook {
            url: Secret::new(""),
            format: WebhookFormat::Generic,
        }),
        ..Delivery::default()
    };
    deliver(&delivery, store.as_ref(), now).await.unwrap();
    deliver(&delivery, store.as_ref(), now + TimeDelta::hours(1))
        .await
        .unwrap();
    assert_eq!(std::fs::read_to_string(file).unwrap(), "{\"n\":1}\n");
}
