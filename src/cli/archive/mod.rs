//! What was archived into files: listed, proved, brought back.

mod adopt;
mod archived;
mod documents;
mod former;
mod manifests;
mod restore;
mod returning;
mod rows;
mod settle;
mod twins;
mod unknown;

use std::collections::BTreeSet;

use self::archived::{Archived, Known};
use self::former::Now;
use self::manifests::{NOT_CONFIGURED, everything, narrowed, unit_of};
use self::restore::restore;
use self::returning::{How, Into};
use self::settle::{Rows, settle};
use super::Failure;
use super::context::Context;
use super::documents as printed;
use crate::report::text::{
    Align, Cell, Columns, Cut, counted, counted_rows, human_bytes, human_count, shown,
};
use crate::values::Engine;

/// What was archived into files: lists it, proves it, brings it back.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  maint archive list\n  maint archive verify\n  maint archive restore --from learning_analytics --into restored.learning_analytics\n  maint archive list --files s3://backups/learning"
)]
pub(super) struct Archive {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// What was archived, oldest first
    #[command(
        after_help = "Examples:\n  maint archive list\n  maint archive list --from public.orders --target app"
    )]
    List(Chosen),
    /// Reads every file and compares it with its manifest
    #[command(
        after_help = "Examples:\n  maint archive verify\n  maint archive verify 0197c1 --output json"
    )]
    Verify(Chosen),
    /// Says of an interrupted batch whether its rows have left their table, where no server can
    /// tell any more: look before you say it
    #[command(
        after_help = "Examples:\n  maint archive settle 0197c1 --gone\n  maint archive settle 0197c1 --kept"
    )]
    Settle {
        /// Beginning of the id of its manifest
        #[arg(value_name = "ID")]
        id: String,
        /// Only of this target
        #[arg(long)]
        target: Option<String>,
        #[command(flatten)]
        said: Said,
    },
    /// Says that a target is the database that was archived from under another name, which is not
    /// configured any more, or with a history that was lost: its runs look after those archives
    /// from then on. Never say it of a copy
    #[command(
        after_help = "Examples:\n  maint archive adopt old_shop --target shop\n  maint archive adopt --target shop --files s3://archive/shop --from public.orders"
    )]
    Adopt {
        /// The name that it had
        #[arg(value_name = "OLD", required_unless_present = "files", conflicts_with_all = ["files", "from"])]
        of: Option<String>,
        /// The name that it has
        #[arg(long)]
        target: String,
        /// What lies beside the files of this place, and the history does not know
        #[arg(long, value_name = "URL")]
        files: Option<String>,
        /// With `--files`, only of this table
        #[arg(long, value_name = "TABLE", requires = "files")]
        from: Option<String>,
    },
    /// Copies archived rows into a table, all or nothing, or documents into a
    /// collection; the files stay
    #[command(
        after_help = "Examples:\n  maint archive restore 0197c1 --into public.orders_back --dry-run\n  maint archive restore --from public.orders --into public.orders_back"
    )]
    Restore {
        #[command(flatten)]
        chosen: Chosen,
        /// The table or collection to fill; made where it does not exist
        #[arg(long, value_name = "TABLE")]
        into: String,
        /// Of documents: the database of that collection; by default the target's own
        #[arg(long, value_name = "NAME")]
        database: Option<String>,
        /// Tells what would come back, and changes nothing
        #[arg(long)]
        dry_run: bool,
        /// Keeps the table's own triggers from touching the rows; for its owner
        #[arg(long)]
        disable_triggers: bool,
        /// Also what was brought back before
        #[arg(long)]
        again: bool,
        /// Of rows: also what came from a database that had the name of the target before the one that is there now
        #[arg(long)]
        former: bool,
        /// Also what may still be in its table, too: no manifest beside the
        /// files says that it has left
        #[arg(long, requires = "files")]
        unsettled: bool,
    },
}

/// What is so of the rows of a batch.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Said {
    /// They are not in their table any more: the archive is all there is of them
    #[arg(long)]
    gone: bool,
    /// They are in their table: the files are removed
    #[arg(long)]
    kept: bool,
    /// Another database has lost them, and they are brought back or given up: it is told no more
    #[arg(long)]
    seen_to: bool,
}

#[derive(Debug, clap::Args)]
struct Chosen {
    /// Beginnings of manifest ids; all where none is given
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// Only what came from this table or collection
    #[arg(long, value_name = "TABLE")]
    from: Option<String>,
    /// Only of this target; with `--files` or `--of`, the target to restore into
    #[arg(long)]
    target: Option<String>,
    /// Only what came from this target, also where that is not configured any more
    #[arg(long, value_name = "TARGET")]
    of: Option<String>,
    /// Reads the manifests beside the files of this place, `file:///folder` or
    /// `s3://bucket/prefix`, instead of the history
    #[arg(long, value_name = "URL")]
    files: Option<String>,
}

impl Archive {
    pub(super) async fn call(&self, context: &Context<'_>) -> Result<u8, Failure> {
        match &self.verb {
            Verb::List(chosen) => list(context, chosen).await,
            Verb::Verify(chosen) => verify(context, chosen).await,
            Verb::Adopt {
                of,
                target,
                files,
                from,
            } => match (of, files) {
                (Some(of), _) => adopt::adopt(context, of, target).await,
                (None, files) => adopt::beside(context, files.clone(), from.clone(), target).await,
            },
            Verb::Settle { id, target, said } => {
                let rows = match (said.gone, said.seen_to) {
                    (true, _) => Rows::Gone,
                    (_, true) => Rows::SeenTo,
                    _ => Rows::Kept,
                };
                settle(context, id, target.as_deref(), rows).await
            }
            Verb::Restore {
                chosen,
                into,
                database,
                dry_run,
                disable_triggers,
                again,
                former,
                unsettled,
            } => {
                let how = How {
                    dry_run: *dry_run,
                    disable_triggers: *disable_triggers,
                    again: *again,
                    former: *former,
                    unsettled: *unsettled,
                };
                let into = Into {
                    name: into,
                    database: database.as_deref(),
                };
                restore(context, chosen, into, how).await
            }
        }
    }
}

async fn list(context: &Context<'_>, chosen: &Chosen) -> Result<u8, Failure> {
    let all = everything(context, chosen).await?;
    let unknown = unknown::look(context, chosen, &all).await?;
    // Files come from wherever they come.
    let now = match chosen.files {
        Some(_) => Now::default(),
        None => Now::read(context, &all.known).await?,
    };
    let found = narrowed(all.known, chosen)?;
    let gone = gone(context, chosen, &found).await?;
    if context.json() {
        let all: Vec<_> = found
            .iter()
            .map(|known| {
                let (target, archived) = known;
                let configured = !target.as_ref().is_some_and(|one| gone.contains(one));
                printed::Archive {
                    target: target.as_deref(),
                    configured,
                    former: now.is_former(known),
                    manifest: archived.json(),
                }
            })
            .collect();
        let mut document = printed::Archives {
            archived: all,
            unknown: None,
            unread: None,
            unseen: None,
        };
        unknown.list_in(&mut document);
        printed::print(&document);
        return Ok(0);
    }
    let unit = unit_of(&found);
    let place = match unit == Engine::Mongodb.counted() {
        true => "collection",
        false => "table",
    };
    let mut table = Columns::new()
        .column("id", Align::Left, Cut::Never)
        .column("target", Align::Left, Cut::Never)
        .column(place, Align::Left, Cut::Middle)
        .column(format!("{unit}s"), Align::Right, Cut::Never)
        .column("size", Align::Right, Cut::Never)
        .column("oldest", Align::Left, Cut::Never)
        .column("newest", Align::Left, Cut::Never)
        .column("where", Align::Left, Cut::End);
    for (target, archived) in &found {
        let spans = || archived.files().iter().filter_map(|f| f.span.as_ref());
        let bytes = archived.files().iter().map(|f| f.bytes).sum();
        let (storage, whole) = archived.place();
        let place = match whole {
            _ if archived.settled() => storage,
            true => format!("{storage} (the partition is on its way out)"),
            false if chosen.files.is_some() => {
                format!("{storage} (perhaps still in its {})", archived.container())
            }
            false if target.as_ref().is_some_and(|one| gone.contains(one)) => format!(
                "{storage} (not settled, and no task looks at it any more: `maint archive settle`)"
            ),
            false => format!("{storage} (not settled: the next run finds out)"),
        };
        table.row([
            Cell::from(&archived.id().to_string()),
            Cell::from(target.as_deref().unwrap_or("?")),
            Cell::from(&shown(&archived.table()).into_owned()),
            Cell::from(&human_count(archived.rows())),
            Cell::from(&human_bytes(bytes)),
            Cell::from(&spans().map(|(a, _)| a.clone()).min().unwrap_or_default()),
            Cell::from(&spans().map(|(_, b)| b.clone()).max().unwrap_or_default()),
            Cell::from(&place),
        ]);
    }
    out!("{}", table.render(0, &context.style(chrono_tz::Tz::UTC)));
    let rows: i64 = found.iter().map(|(_, m)| m.rows()).sum();
    outln!(
        "{} archived, {}",
        found.len(),
        counted(usize::try_from(rows).unwrap_or(0), unit)
    );
    tell(&gone, &found);
    now.tell(&found);
    unknown.tell();
    Ok(0)
}

/// The targets of these that the configuration has not.
async fn gone(
    context: &Context<'_>,
    chosen: &Chosen,
    found: &[Known],
) -> Result<BTreeSet<String>, Failure> {
    // Files come from wherever they come.
    if chosen.files.is_some() {
        return Ok(BTreeSet::new());
    }
    let config = context.config().await?;
    let names = found.iter().filter_map(|(target, _)| target.as_ref());
    let gone =
        names.filter(|name| config.target(name).is_none() && config.outside.not_asked.is_empty());
    Ok(gone.cloned().collect())
}

/// Tells what is of targets that the configuration has not.
fn tell(gone: &BTreeSet<String>, found: &[Known]) {
    for name in gone {
        let of = || {
            found
                .iter()
                .filter(|(target, _)| target.as_ref() == Some(name))
        };
        let rows = of().map(|(_, archived)| archived.rows()).sum();
        let name = shown(name);
        outln!(
            "{} of them, {}, of the target {name}, {NOT_CONFIGURED}; they come back with `maint archive restore --of {name} --target TARGET`",
            of().count(),
            counted_rows(rows, unit_of(of()))
        );
    }
}

async fn verify(context: &Context<'_>, chosen: &Chosen) -> Result<u8, Failure> {
    let all = everything(context, chosen).await?;
    let unknown = unknown::look(context, chosen, &all).await?;
    let found = narrowed(all.known, chosen)?;
    let (found, elsewhere): (Vec<Known>, Vec<Known>) = found
        .into_iter()
        .partition(|(_, archived)| archived.has_files());
    let gone = gone(context, chosen, &found).await?;
    let mut results = Vec::new();
    let mut broken = 0;
    for (target, archived) in &found {
        let problem = match archived {
            Archived::Rows(manifest) => rows::problem(manifest).await,
            Archived::Documents(manifest) => documents::problem(manifest).await,
        };
        // What was found beside the files needs no other.
        let problem = match problem {
            None if chosen.files.is_none() => archived.strayed().await,
            problem => problem,
        };
        let (id, unit) = (archived.id(), archived.unit());
        broken += usize::from(problem.is_some());
        if !context.json() {
            match &problem {
                None => outln!(
                    "✓ {id} {}",
                    counted_rows(archived.rows(), unit.trim_end_matches('s'))
                ),
                Some(why) => outln!("✗ {id} {}", shown(why)),
            }
        }
        results.push(serde_json::json!({
            "target": target, "configured": !target.as_ref().is_some_and(|one| gone.contains(one)), "id": id, "rows": archived.rows(), "problem": problem,
        }));
    }
    if context.json() {
        let elsewhere: Vec<_> = elsewhere.iter().map(|(_, one)| one.id()).collect();
        let mut document = serde_json::json!({ "verified": results, "not_looked_at": elsewhere });
        unknown.add_to(&mut document);
        outln!("{document}");
    } else {
        outln!("{} of {} are as written", found.len() - broken, found.len());
        if !elsewhere.is_empty() {
            let rows = elsewhere.iter().map(|(_, one)| one.rows()).sum();
            outln!(
                "{} more, {}, are in tables of other databases, which are not looked at here: runs look for the last of them after each start or change of the server there",
                elsewhere.len(),
                counted_rows(rows, "row")
            );
        }
        tell(&gone, &found);
        unknown.tell();
    }
    Ok(u8::from(broken > 0 || !unknown.is_none()))
}
