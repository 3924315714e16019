//! What servers answer: how much of it is read, and what of it is shown.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::Utc;
use maint::config::{Webhook, WebhookFormat};
use maint::history::Letter;
use maint::notify::{Delivery, Mail, Outcome, Smtp, hand_over};
use maint::values::Secret;
use uuid::Uuid;

/// What one talks to at the other end of a connection, and what came of it.
struct Talker<T> {
    port: u16,
    talk: JoinHandle<T>,
}

impl<T: Send + 'static> Talker<T> {
    /// Talks to the first who comes.
    fn start(talk: impl FnOnce(TcpStream) -> T + Send + 'static) -> Talker<T> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let talk = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let limit = Some(Duration::from_secs(60));
            stream.set_read_timeout(limit).unwrap();
            stream.set_write_timeout(limit).unwrap();
            talk(stream)
        });
        Talker { port, talk }
    }

    /// What came of it. Meanwhile connections that nobody wants any more are closed.
    async fn end(self) -> T {
        let end = tokio::task::spawn_blocking(|| self.talk.join().unwrap());
        end.await.unwrap()
    }
}

const WHOLE: usize = 256 << 20;

/// How much of an endless answer the other side takes.
fn pour(mut stream: TcpStream) -> usize {
    let piece = vec![b'x'; 1 << 16];
    let mut taken = 0;
    while taken < WHOLE {
        match stream.write(&piece) {
            Ok(some) => taken += some,
            Err(_) => break,
        }
    }
    taken
}

fn letter(channel: &str, body: serde_json::Value) -> Letter {
    let now = Utc::now();
    Letter {
        id: Uuid::now_v7(),
        created_at: now,
        channel: channel.to_owned(),
        body,
        attempts: 0,
        next_attempt_at: now,
        last_error: None,
    }
}

async fn post(url: String) -> String {
    let delivery = Delivery {
        webhook: Some(Webhook {
            url: Secret::new(url),
            format: WebhookFormat::Generic,
        }),
        ..Delivery::default()
    };
    match hand_over(&delivery, &letter("webhook", serde_json::json!({}))).await {
        Outcome::Later(why) => why,
        other => panic!("{other:?}"),
    }
}

async fn mail(url: &str) -> String {
    let from = "maint@example.com".parse().unwrap();
    let delivery = Delivery {
        smtp: Some((Smtp::new(url).unwrap(), from)),
        ..Delivery::default()
    };
    let mail = Mail {
        to: vec!["dba@example.com".parse().unwrap()],
        ..Mail::default()
    };
    let letter = letter("email", serde_json::to_value(mail).unwrap());
    match hand_over(&delivery, &letter).await {
        Outcome::Later(why) | Outcome::Refused(why) => why,
        other => panic!("{other:?}"),
    }
}

/// The request of a client, up to its body.
fn head(stream: &TcpStream) -> String {
    let mut lines = BufReader::new(stream.try_clone().unwrap());
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(lines.read_line(&mut head).unwrap(), 0, "{head}");
    }
    head
}

#[tokio::test]
async fn an_endless_answer_of_a_webhook_is_not_read_to_its_end() {
    let talker = Talker::start(|mut stream| {
        head(&stream);
        write!(stream, "HTTP/1.1 500 No\r\nConnection: close\r\n\r\n").unwrap();
        pour(stream)
    });
    let why = post(format!("http://127.0.0.1:{}/weg", talker.port)).await;
    assert!(why.contains("500") && why.len() < 300, "{why}");
    let taken = talker.end().await;
    assert!(taken < WHOLE / 2, "{taken}");
}

#[tokio::test]
async fn an_endless_line_of_a_mail_server_is_not_read_to_its_end() {
    let talker = Talker::start(pour);
    let url = format!("smtp://127.0.0.1:{}?tls=none", talker.port);
    let why = mail(&url).await;
    assert!(why.contains("answers with more than"), "{why}");
    let taken = talker.end().await;
    assert!(taken < WHOLE / 2, "{taken}");
}

/// A server, or a proxy before it, that shows what it was sent, however it writes it.
#[tokio::test]
async fn credentials_that_a_webhook_repeats_are_not_shown() {
    let pair = STANDARD.encode("u5er:P?W>S3CRET/ü");
    assert!(pair.contains('/') || pair.contains('+'), "{pair}");
    for shape in ["Authorization: Basic {}", "{\"auth\":\"{}\"}", "<i>{}</i>"] {
        for escaped in [false, true] {
            let talker = Talker::start(move |mut stream| {
                let head = head(&stream);
                let sent = head
                    .lines()
                    .find_map(|line| line.strip_prefix("authorization: Basic "))
                    .unwrap();
                let shown = if escaped {
                    sent.replace('/', "\\/")
                } else {
                    sent.to_owned()
                };
                let body = shape.replace("{}", &shown);
                let many = body.len();
                write!(
                    stream,
                    "HTTP/1.1 500 No\r\nContent-Length: {many}\r\n\r\n{body}"
                )
                .unwrap();
                sent.to_owned()
            });
            let why = post(format!(
                "http://u5er:P%3FW%3ES3CRET%2F%C3%BC@127.0.0.1:{}/weg",
                talker.port
            ))
            .await;
            assert_eq!(talker.end().await, pair);
            assert!(why.contains("500") && why.contains("***"), "{why}");
            let piece = pair.split('/').map(|one| &one[..one.len().min(8)]);
            for piece in piece.filter(|piece| piece.len() > 3) {
                assert!(!why.contains(piece), "{why} has {piece}");
            }
        }
    }
}

/// A secret of which the end of what is read is only a half.
#[tokio::test]
async fn half_a_secret_at_the_end_of_what_is_read_is_not_shown() {
    for blanks in 4000..4110 {
        let talker = Talker::start(move |mut stream| {
            head(&stream);
            let body = format!("{}/geheimer-weg-ins-haus", "\n".repeat(blanks));
            let _ = write!(
                stream,
                "HTTP/1.1 500 No\r\nConnection: close\r\n\r\n{body}{}",
                "y".repeat(20_000)
            );
            let _ = stream.read(&mut [0]);
        });
        let url = format!("http://127.0.0.1:{}/geheimer-weg-ins-haus", talker.port);
        let why = post(url).await;
        assert!(!why.contains("gehe"), "{blanks}: {why}");
        talker.end().await;
    }
}

#[tokio::test]
async fn credentials_that_a_mail_server_repeats_are_not_shown() {
    for (auth, offers) in [
        ("plain", "PLAIN"),
        ("login", "LOGIN"),
        ("xoauth2", "XOAUTH2"),
    ] {
        let talker = Talker::start(move |mut stream| {
            let mut lines = BufReader::new(stream.try_clone().unwrap());
            let mut said = String::new();
            write!(stream, "220 here\r\n").unwrap();
            lines.read_line(&mut said).unwrap();
            write!(stream, "250-here\r\n250 AUTH {offers}\r\n").unwrap();
            let mut last = String::new();
            lines.read_line(&mut last).unwrap();
            // The user, then the password.
            while last.trim_end().ends_with("AUTH LOGIN") || last.trim_end() == "dTVlcg==" {
                let ask = if last.contains("LOGIN") {
                    "VXNlcm5hbWU6"
                } else {
                    "UGFzc3dvcmQ6"
                };
                write!(stream, "334 {ask}\r\n").unwrap();
                last.clear();
                lines.read_line(&mut last).unwrap();
            }
            write!(stream, "500 5.5.1 no such command: {last}").unwrap();
            last.trim_end().rsplit(' ').next().unwrap().to_owned()
        });
        let url = format!(
            "smtp://u5er:P%3FW%3ES3CRET@127.0.0.1:{}?tls=none&auth={auth}",
            talker.port
        );
        let why = mail(&url).await;
        let sent = talker.end().await;
        assert!(sent.len() > 8, "{auth}: {sent}");
        assert!(
            why.contains("no such command: ") && why.contains("***"),
            "{why}"
        );
        assert!(!why.contains(&sent), "{auth}: {why}");
    }
}
