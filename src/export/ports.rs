//! Where the pods of a cluster have to get through: the ports of everything that is connected to.

use std::collections::BTreeSet;

use serde_json::Value;
use url::Url;

use crate::config::Config;
use crate::engines::{Ports, ports as behind, storage};
use crate::values::{Engine, Secret};

/// The ports, and sentences on those that are a guess.
#[derive(Default)]
pub(super) struct Reached {
    pub(super) ports: BTreeSet<u16>,
    pub(super) notes: Vec<String>,
}

impl Reached {
    fn add(&mut self, whose: &str, found: Ports) {
        if let Some(why) = found.guess {
            let numbers: Vec<String> = found.numbers.iter().map(u16::to_string).collect();
            let note = format!(
                "the NetworkPolicy lets pods out to port {} for {whose}, which is a guess, as {why}: add the port where it is another",
                numbers.join(" and ")
            );
            if !self.notes.contains(&note) {
                self.notes.push(note);
            }
        }
        self.ports.extend(found.numbers);
    }

    fn add_url(&mut self, url: &Secret, usual: u16) {
        // What is no URL is reported by who uses it.
        let parsed = Url::parse(url.expose()).ok();
        let port = parsed.and_then(|url| url.port_or_known_default());
        self.ports.insert(port.unwrap_or(usual));
    }
}

/// The TCP ports at the other end of everything that is connected to; `env` looks up variables.
pub(super) fn reached(config: &Config, env: &dyn Fn(&str) -> Option<String>) -> Reached {
    let mut reached = Reached::default();
    for (name, target) in &config.targets {
        let whose = format!("target `{name}`");
        reached.add(&whose, behind(target.engine, target.url.as_ref(), env));
        for replica in &target.replicas {
            reached.add(&whose, behind(target.engine, Some(replica), env));
        }
    }
    if !config.history.expose().starts_with("sqlite:") {
        let found = behind(Engine::Postgres, Some(&config.history), env);
        reached.add("the history", found);
    }
    for task in config.tasks.values() {
        let files = task.options.pointer("/destination/files");
        if let Some(url) = files.and_then(Value::as_str) {
            let whose = format!("the files of task `{}`", task.name);
            reached.add(&whose, storage::ports(url, env));
        }
    }
    if let Some(smtp) = &config.smtp {
        let implicit = smtp.url.expose().starts_with("smtps:");
        reached.add_url(&smtp.url, if implicit { 465 } else { 587 });
    }
    let notify = config.notify.as_ref();
    let hooks = notify.into_iter().flat_map(|notify| {
        let webhook = notify.webhook.iter().map(|hook| &hook.url);
        webhook.chain(notify.ping.iter().map(|hook| &hook.url))
    });
    let pings = config.schedules.values();
    let pings = pings.filter_map(|one| one.ping.as_ref());
    for url in hooks.chain(pings.map(|hook| &hook.url)) {
        reached.add_url(url, 443);
    }
    // Webhooks, watchdogs and object storage that are named later on.
    reached.ports.insert(443);
    reached
}
