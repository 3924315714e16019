//! What to do next, for who types the bare name of the program: by whether a configuration is
//! there, and whether it can be read.

use super::Failure;
use super::context::Context;
use crate::config::Care;
use crate::report::text::counted;

/// `maint` alone: what to do next.
///
/// # Errors
/// Where there is a configuration with problems in it.
pub(super) fn call(context: &Context<'_>) -> Result<u8, Failure> {
    let path = match context.config_path() {
        Ok(path) => path,
        Err(_) => {
            outln!(
                "maint looks after databases. There is no configuration here yet.\n\n\
                 Next:\n\
                 \x20 maint init URL        look at a database (it only reads), and write one that fits it\n\
                 \x20 maint init --from crontab FILE\n\
                 \x20                       translate what cron runs today; pg_cron and pg_partman, too\n\
                 \x20 maint demo            see it at work on a throwaway PostgreSQL\n\
                 \x20 maint schema --help   what schedules.yaml and tasks/*.yaml may hold\n\
                 \x20 maint --help          everything it can do\n\n\
                 A configuration is schedules.yaml here, in /etc/maint, or where --config or\n\
                 MAINT_CONFIG says, with a folder tasks/ beside it."
            );
            return Ok(2);
        }
    };
    let config = context.config_unasked(Care::Look)?;
    let folder = path.parent().unwrap_or(std::path::Path::new("."));
    let shipped = super::init::files::shipped(folder);
    let init = match shipped.iter().any(|(one, _)| *one == path) {
        true => format!(
            "\x20 maint init --dir {} URL\n\
             \x20                       look at a database, and write what fits it in place of these files,\n\
             \x20                       which are as the package ships them\n",
            super::paste::word(folder)
        ),
        false => String::new(),
    };
    outln!(
        "{}: {}, {}, {}\n\n\
         Next:\n{init}\
         \x20 maint status          is all well?\n\
         \x20 maint next            what is planned\n\
         \x20 maint plan TASK       what a task would do now, and why\n\
         \x20 maint run TASK --now  do it\n\
         \x20 maint --help          everything it can do",
        path.display(),
        counted(config.tasks.len(), "task"),
        counted(config.targets.len(), "target"),
        counted(config.schedules.len(), "schedule")
    );
    Ok(0)
}
