//! What `lock`, `plan`, `deploy` and `rollback` take.

use clap::Args;

use super::{Answers, At, Common, Keys, Which};

/// What `lock` takes.
#[derive(Debug, Args)]
#[command(after_long_help = LOCK)]
pub struct Lock {
    #[command(flatten)]
    /// Which stack is meant.
    pub at: At,
    /// Resolve again what is written down already: this image, or all of them
    #[arg(long, value_name = "IMAGE", num_args = 0..=1)]
    pub update: Option<Option<String>>,
    /// The host whose engine resolves them [default: the first that answers]
    #[arg(long, value_name = "NAME")]
    pub host: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

const LOCK: &str = "\
With images = \"registry\" in stack.toml, the engine of a host pulls each image by its tag and says
its digest. With images = \"local\", the engine of this machine says it: 'docker' is run here.
What is written down already stays as it is, unless --update is given; 'plan' and 'deploy' look at
sovereign.lock alone.

Examples:
  sovereign lock
  sovereign lock --update
  sovereign lock --update ghost:5-alpine";

/// What a plan is made of.
#[derive(Debug, Args)]
pub struct Scope {
    #[command(flatten)]
    /// Which stack is meant.
    pub at: At,
    #[command(flatten)]
    /// Whose key reads the secrets.
    pub keys: Keys,
    #[command(flatten)]
    /// Which part of it.
    pub which: Which,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

impl Scope {
    pub(super) fn common(&self) -> Common<'_> {
        self.at.common().keys(&self.keys).json(self.json)
    }
}

/// What `plan` takes.
#[derive(Debug, Args)]
#[command(after_long_help = PLAN)]
pub struct Plan {
    #[command(flatten)]
    /// What it is made of.
    pub scope: Scope,
    /// Exit with 3 where something would change
    #[arg(long)]
    pub exit_code: bool,
}

const PLAN: &str = "\
Looks at the hosts and changes nothing there. Signs: + begins to run, ~ changes, - goes.
Exits with 1 where a host cannot be looked at: what is planned for the others is shown.

Examples:
  sovereign plan
  sovereign plan --service blog
  sovereign plan --json --exit-code";

/// What `deploy` takes.
#[derive(Debug, Args)]
#[command(after_long_help = DEPLOY)]
pub struct Deploy {
    #[command(flatten)]
    /// What the plan is made of.
    pub scope: Scope,
    /// Show what would be done, as 'plan' does
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    /// Questions that are answered beforehand.
    pub answers: Answers,
}

const DEPLOY: &str = "\
Looks at the hosts, shows what would change, asks, changes it, and looks again. Where a host does
not answer or a step fails, that host stops there, with the old version serving; the others go on.
A run that was cut off is taken up by running it again. Ctrl-C ends it after the step under way,
a second one at once.

Examples:
  sovereign deploy
  sovereign deploy --service blog --yes
  sovereign deploy --host h1 --dry-run";

/// What `rollback` takes.
#[derive(Debug, Args)]
#[command(after_long_help = ROLLBACK)]
pub struct Rollback {
    #[command(flatten)]
    /// Which stack is meant.
    pub at: At,
    /// The number of the deployment to go back to [default: the one before the last]
    #[arg(long, value_name = "NUMBER")]
    pub to: Option<u64>,
    /// Only this host; may be given again
    #[arg(long, value_name = "NAME")]
    pub host: Vec<String>,
    /// List the deployments that one can go back to
    #[arg(long, conflicts_with_all = ["to", "dry_run", "yes"])]
    pub list: bool,
    /// Show what would be done
    #[arg(long)]
    pub dry_run: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    /// Questions that are answered beforehand.
    pub answers: Answers,
}

const ROLLBACK: &str = "\
Puts back what each host's own record of deployments says: versions of services, their options and
the proxy. Data stays as it is. stack.toml is not changed: the next deployment goes by it again.

Examples:
  sovereign rollback --list
  sovereign rollback
  sovereign rollback --to 7 --host h1";
