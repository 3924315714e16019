use super::Failure;
use super::context::Context;

/// A throwaway PostgreSQL with the data of a learning platform, aged.
#[derive(Debug, clap::Args)]
pub(super) struct Demo {
    /// Leave the server running and print how to connect
    #[arg(long)]
    keep: bool,
}

impl Demo {
    pub(super) async fn call(&self, _context: &Context<'_>) -> Result<u8, Failure> {
        Err(Failure::Other("not yet".to_owned()))
    }
}
