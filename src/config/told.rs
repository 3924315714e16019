//! Whether anybody can be told anything: addresses of mail servers and webhooks that lead nowhere,
//! and `notify` without a way to anybody. No message shows an address.

use std::path::Path;

use url::{Host, Url};

use super::check::{is_smtp, is_web, span};
use super::files::File;
use super::model::SchedulesFile;
use super::node::Node;
use crate::values::{TimeSpan, trusted_certificates};

/// What a URL of a mail server may have behind its `?`.
const OPTIONS: [&str; 4] = ["auth", "tls", "ca", "timeout"];

/// Addresses with a scheme that fits, and that cannot be used all the same.
pub(super) fn addresses(root: &Node, typed: &SchedulesFile, file: &mut File) {
    let mut wrong: Vec<(Vec<&str>, String)> = Vec::new();
    if let Some(smtp) = &typed.smtp
        && is_smtp(smtp.url.expose())
        && let Err(why) = mail_server(smtp.url.expose())
    {
        wrong.push((vec!["smtp", "url"], why));
    }
    let mut web = |path: Vec<&'static str>, url: &str| {
        if is_web(url)
            && let Err(why) = Url::parse(url)
        {
            wrong.push((path, why.to_string()));
        }
    };
    if let Some(notify) = &typed.notify {
        if let Some(hook) = &notify.webhook {
            web(vec!["notify", "webhook", "url"], hook.url.expose());
        }
        if let Some(hook) = &notify.ping {
            web(vec!["notify", "ping", "url"], hook.url.expose());
        }
    }
    if let Some(url) = &typed.web.url {
        web(vec!["web", "url"], url);
    }
    for (name, schedule) in &typed.schedules {
        if let Some(hook) = &schedule.ping
            && is_web(hook.url.expose())
            && let Err(why) = Url::parse(hook.url.expose())
        {
            wrong.push((vec!["schedules", name, "ping", "url"], why.to_string()));
        }
    }
    for (path, why) in wrong {
        let message = format!("`{}` cannot be used: {why}", path.join("."));
        file.report(file.problem(span(root, &path), message));
    }
    if let Some(notify) = &typed.notify {
        let ways = notify.email.is_some()
            || notify.webhook.is_some()
            || notify.ping.is_some()
            || notify.file.is_some()
            || notify.escalate_to.is_some();
        if !ways {
            let message = "`notify` tells nobody: it has no way to anybody";
            let problem = file.problem(span(root, &["notify"]), message);
            file.report(
                problem.hint("add `email`, `webhook`, `file` or `ping`, or leave `notify` out"),
            );
        }
    }
}

/// Whether it is a URL that mail can be sent by.
fn mail_server(url: &str) -> Result<(), String> {
    let parsed = Url::parse(url).map_err(|why| why.to_string())?;
    if parsed.host_str().is_none_or(str::is_empty) {
        return Err("it names no host".to_owned());
    }
    for (key, value) in parsed.query_pairs() {
        match (key.as_ref(), value.as_ref()) {
            ("tls", "required") => {}
            ("tls", "none") if is_this_machine(&parsed) => {}
            ("tls", "none") => {
                return Err("`tls=none` is only for a relay on this machine".to_owned());
            }
            ("tls", other) => {
                return Err(format!(
                    "`tls={}` is none of required, none",
                    other.escape_debug()
                ));
            }
            ("auth", "plain" | "login" | "xoauth2") => {}
            ("auth", other) => {
                let other = other.escape_debug();
                return Err(format!("`auth={other}` is none of plain, login, xoauth2"));
            }
            ("timeout", span) => {
                let parsed: Option<TimeSpan> = span.parse().ok();
                if parsed.is_none_or(|span| span.get().is_zero()) {
                    let span = span.escape_debug();
                    return Err(format!(
                        "`timeout={span}` is no time for a mail to be handed over in; expected one such as `30s`"
                    ));
                }
            }
            ("ca", file) => {
                trusted_certificates(Path::new(file)).map_err(|why| {
                    let file = file.escape_debug();
                    format!("`ca={file}`: {why}; expected a file of certificates in PEM")
                })?;
            }
            (other, _) if !OPTIONS.contains(&other) => {
                return Err(format!(
                    "`{}` is none of {}",
                    other.escape_debug(),
                    OPTIONS.join(", ")
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

fn is_this_machine(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => {
            let address = name.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
            name == "localhost" || address.is_ok_and(|address| address.is_loopback())
        }
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn what_no_mail_can_be_sent_by_is_told_without_its_password() {
        for (url, why) in [
            ("smtp://u:geheim@h:notaport", "invalid port number"),
            (
                "smtp://u:geheim@h?tsl=none",
                "`tsl` is none of auth, tls, ca, timeout",
            ),
            (
                "smtp://u:geheim@h?tls=none",
                "only for a relay on this machine",
            ),
            ("smtp://u:geheim@h?auth=ntlm", "`auth=ntlm` is none of"),
            (
                "smtps://u:geheim@h?timeout=0s",
                "expected one such as `30s`",
            ),
            ("smtps://u:geheim@h?timeout=soon", "`timeout=soon` is no"),
            ("smtps://u:geheim@h?ca=/no/such.pem", "`ca=/no/such.pem`: "),
            (
                "smtps://u:geheim@h?ca=/dev/null",
                "expected a file of certificates in PEM",
            ),
        ] {
            let said = mail_server(url).unwrap_err();
            assert!(said.contains(why) && !said.contains("geheim"), "{said}");
        }
        for url in [
            "smtp://127.0.0.1:2525?tls=none",
            "smtp://localhost?tls=none&timeout=5s",
            "smtp://[::1]:25?tls=none",
            "smtps://a%40b:p%3Ass@mail.example.com?auth=login",
        ] {
            mail_server(url).unwrap();
        }
    }
}
