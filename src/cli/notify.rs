//! Tries every way by which people are told, with a test, and says what came of each.

use super::Failure;
use super::context::Context;
use crate::notify::{self, Outcome};
use crate::values::{wall_clock, with_causes};

/// What people are told, and by which way.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  maint notify test")]
pub(super) struct Notify {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Sends a test by every way that is configured, and says what came of it
    #[command(after_help = "Examples:\n  maint notify test\n  maint notify test --output json")]
    Test,
}

impl Notify {
    pub(super) async fn call(&self, context: &Context<'_>) -> Result<u8, Failure> {
        match self.verb {
            Verb::Test => test(context).await,
        }
    }
}

async fn test(context: &Context<'_>) -> Result<u8, Failure> {
    let config = context.config().await?;
    let delivery = notify::delivery(&config).map_err(|why| Failure::Usage(with_causes(&why)))?;
    let letters = context.teller(&config).test_letters(wall_clock());
    if letters.is_empty() {
        return Err(Failure::Usage(format!(
            "{} has no way to tell anybody: `notify` needs a `webhook`, a `file`, or an `email` \
             together with `smtp`",
            config.path.display()
        )));
    }
    let mut results = Vec::new();
    for letter in &letters {
        let outcome = notify::hand_over(&delivery, letter).await;
        let (word, why) = match outcome {
            Outcome::Sent => ("sent", None),
            Outcome::Later(why) => ("not sent, though it may work later", Some(why)),
            Outcome::Refused(why) => ("refused", Some(why)),
            Outcome::Partly { later, refused } => {
                let left = [later, refused].into_iter().flatten();
                let why: Vec<String> = left.map(|left| left.why).collect();
                ("sent, but not to everybody", Some(why.join("; ")))
            }
        };
        if !context.json() {
            let why = why.as_ref().map(|why| format!(": {why}"));
            outln!("{}: {word}{}", letter.channel, why.unwrap_or_default());
        }
        results.push((letter.channel.as_str(), why));
    }
    if context.json() {
        let results: Vec<_> = results
            .iter()
            .map(|(channel, why)| {
                serde_json::json!({ "channel": channel, "sent": why.is_none(), "error": why })
            })
            .collect();
        outln!("{}", serde_json::json!({ "results": results }));
    }
    Ok(u8::from(results.iter().any(|(_, why)| why.is_some())))
}
