//! Tells what the code of a finding or a status means, and makes the page of documentation from the
//! same list, so that the two cannot differ.

use super::Failure;
use super::context::{Context, unknown};
use crate::plan::codes::{self, Code};
use crate::report::text::{Align, Cell, Columns, Cut, Ink};

/// What a finding's code or a status means, why it matters, what to do.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  maint explain index.unused\n  maint explain incomplete\n  maint explain    all of them"
)]
pub(super) struct Explain {
    /// As it is printed; all are listed where it is left out
    code: Option<String>,
    /// Prints the page of documentation that is made of the list
    #[arg(long, hide = true, conflicts_with = "code")]
    markdown: bool,
}

impl Explain {
    pub(super) fn call(&self, context: &Context<'_>) -> Result<u8, Failure> {
        if self.markdown {
            out!("{}", markdown());
            return Ok(0);
        }
        let Some(name) = &self.code else {
            self.list(context);
            return Ok(0);
        };
        let Some(code) = codes::explained(name) else {
            let known: Vec<String> = codes::all().map(|one| one.code.to_owned()).collect();
            return Err(unknown("code", name, known.iter()));
        };
        if context.json() {
            outln!("{}", serde_json::json!(code));
            return Ok(0);
        }
        let style = context.style(chrono_tz::Tz::UTC);
        outln!("{}", style.paint(Ink::Strong, code.code));
        for (title, text) in [
            ("", code.meaning),
            ("Why it matters: ", code.matters),
            ("What to do: ", code.todo),
        ] {
            let text = format!("{title}{text}");
            for line in crate::report::text::wrapped(
                &text,
                style.width.map(|width| width.saturating_sub(2)),
            ) {
                outln!("  {line}");
            }
        }
        Ok(0)
    }

    fn list(&self, context: &Context<'_>) {
        if context.json() {
            let all: Vec<&Code> = codes::all().collect();
            outln!("{}", serde_json::json!({ "codes": all }));
            return;
        }
        let mut table = Columns::new()
            .column("code", Align::Left, Cut::Never)
            .column("meaning", Align::Left, Cut::End);
        for one in codes::all() {
            table.row([Cell::new(Ink::Strong, one.code), Cell::from(one.meaning)]);
        }
        out!("{}", table.render(0, &context.style(chrono_tz::Tz::UTC)));
    }
}

/// `docs/codes.md`.
fn markdown() -> String {
    let mut text = String::from(
        "# Codes and statuses\n\nMade from the list that `maint explain CODE` uses.\n",
    );
    let statuses: Vec<&Code> = codes::STATUSES.iter().collect();
    for (title, list) in [("Statuses", statuses), ("Findings", codes::findings())] {
        text.push_str(&format!(
            "\n## {title}\n\n| code | meaning | why it matters | what to do |\n|---|---|---|---|\n"
        ));
        for one in list {
            text.push_str(&format!(
                "| `{}` | {} | {} | {} |\n",
                one.code, one.meaning, one.matters, one.todo
            ));
        }
    }
    text
}
