use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use maint::notify::Smtp;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::connect::certificates::{Authority, Identity};

/// How a mail server misbehaves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// Each recipient is refused for now, the first time.
    Greylist,
    /// Nobody is called `gone` there.
    Gone,
    /// The same, and `slow` is refused for now, the first two times.
    Some,
    /// It takes the mail and never says so.
    Hang,
}

/// aiosmtpd with STARTTLS on one port and TLS from the start on another, both
/// with AUTH; mails end up in a Maildir.
pub(crate) struct MailServer {
    process: Child,
    folder: TempDir,
    starttls: u64,
    implicit: u64,
    ca: PathBuf,
}

pub(crate) const USER: &str = "maint@example.com";
pub(crate) const PASSWORD: &str = "geheim:1/2";
/// The password as a URL spells it.
const ENCODED: &str = "geheim%3A1%2F2";

impl MailServer {
    pub(crate) fn start(fault: Fault) -> MailServer {
        let authority = Authority::new("mail test");
        let server = authority.server(&["localhost", "127.0.0.1"]);
        MailServer::showing(fault, &server, &authority.certificate_pem)
    }

    /// With a certificate that is its own authority, and that one named by `?ca=`.
    pub(crate) fn its_own_authority(names: &[&str], expired: bool) -> MailServer {
        let own = Authority::of_its_own(names, expired);
        MailServer::showing(Fault::None, &own, &own.certificate_pem)
    }

    fn showing(fault: Fault, server: &Identity, trusted: &str) -> MailServer {
        let tools = std::env::var("MAINT_TEST_TOOLS").expect(
            "MAINT_TEST_TOOLS names the folder of the Python tools: run ./scripts/test, or export MAINT_TEST_TOOLS=$(./scripts/tools)",
        );
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = server.write(folder.path(), "server");
        let ca = folder.path().join("ca.pem");
        std::fs::write(&ca, trusted).unwrap();
        let options = json!({
            "folder": folder.path().join("mail"), "certificate": certificate, "key": key,
            "user": USER, "password": PASSWORD,
            "fault": match fault { Fault::None => "none", Fault::Greylist => "greylist", Fault::Hang => "hang", Fault::Gone => "gone", Fault::Some => "some" },
        });
        let mut process = Command::new(format!("{tools}/bin/python"))
            .arg(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/it/notify/mailserver.py"
            ))
            .arg(options.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(folder.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let ports: Value = serde_json::from_str(&line).unwrap_or_else(|_| {
            let log = std::fs::read_to_string(folder.path().join("log"));
            panic!("the mail server did not start: {log:?}")
        });
        MailServer {
            process,
            folder,
            starttls: ports["starttls"].as_u64().unwrap(),
            implicit: ports["implicit"].as_u64().unwrap(),
            ca,
        }
    }

    /// A URL that works, with further parameters.
    pub(crate) fn url(&self, scheme: &str, password: &str, more: &str) -> String {
        let port = if scheme == "smtps" {
            self.implicit
        } else {
            self.starttls
        };
        let password = if password == PASSWORD {
            ENCODED
        } else {
            password
        };
        format!(
            "{scheme}://maint%40example.com:{password}@localhost:{port}?ca={}{more}",
            self.ca.display()
        )
    }

    /// The same, trusting only what the system trusts.
    pub(crate) fn untrusting_url(&self) -> String {
        format!(
            "smtp://maint%40example.com:{ENCODED}@localhost:{}",
            self.starttls
        )
    }

    /// The same, trusting what somebody else's file names.
    pub(crate) fn trusting(&self, other: &MailServer) -> String {
        format!("{}?ca={}", self.untrusting_url(), other.ca.display())
    }

    pub(crate) fn smtp(&self) -> Smtp {
        Smtp::new(&self.url("smtp", PASSWORD, "")).unwrap()
    }

    /// The mails that arrived, as they travelled.
    pub(crate) fn mails(&self) -> Vec<Vec<u8>> {
        let Ok(entries) = std::fs::read_dir(self.folder.path().join("mail/new")) else {
            return Vec::new();
        };
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
            .iter()
            .map(|path| std::fs::read(path).unwrap())
            .collect()
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
