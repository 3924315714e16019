//! Several recipients, of which one does not exist.

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
