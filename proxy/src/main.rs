//! The command: reads its arguments, does one thing, and ends with 0 (done), 1 (failed) or
//! 2 (wrong usage or configuration).

// What can be asked.
mod args;
// What `demo` adds to `run`.
mod demonstration;
// `certs` and `ca`.
mod certificates;
// The terms of the default authority: the question of `run`, and of `certs agree`.
mod terms;

use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use sovereign_config::Report;
use sovereign_proxy::admin::purge::MOST_BYTES;
use sovereign_proxy::admin::{Client, PurgeRequest, UpgradeRequest};
use sovereign_proxy::status::{self, Look};
use sovereign_proxy::{app, handover, init, tls, warm};

use args::{Cli, Command, Daemon};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    match perform(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            handover::give_up(&format!("{error:#}"));
            let (text, code) = if error.is::<Report>() {
                (error.to_string(), ExitCode::from(PROBLEM))
            } else {
                (format!("error: {error:#}"), ExitCode::FAILURE)
            };
            eprint(&text);
            code
        }
    }
}

fn perform(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run { config } if init::is_first() => {
            let checked = sovereign_config::load(&config)?;
            return Ok(ExitCode::from(init::run(&checked)?));
        }
        Command::Run { config } => run(config, |_| {})?,
        Command::Demo { http, https, state } => {
            let state = state.map_or_else(demonstration::default_state, Ok)?;
            run(demonstration::prepare(&state, http, https)?, |bound| {
                // A successor takes over in silence.
                if !demonstration::is_successor() {
                    let _ = print(&demonstration::demo_greeting(bound));
                }
            })?;
        }
        Command::Check { schema: true, .. } => print(&pretty(&sovereign_config::schema())?)?,
        Command::Check { config, json, .. } => return check(&config, json),
        Command::Init { file, force } => init(&file, force)?,
        Command::Status { daemon, json } => {
            let status = ask(&daemon, async |client| client.status().await)?;
            let text = if json {
                pretty(&status)?
            } else {
                status::render(&status, Look::of_stdout())
            };
            print(&text)?;
        }
        Command::Certs(certs) => return certificates::perform(certs),
        Command::Ca { what } => certificates::authority(&what)?,
        Command::Warm {
            daemon,
            site,
            rate,
            encoding,
            dry_run,
            json,
        } => {
            let options = warm::Options {
                site,
                rate,
                encoding: Some(encoding).filter(|encoding| !encoding.is_empty()),
                dry_run,
            };
            let progress = warm::Progress::on_terminal();
            let report = ask(&daemon, async |client| {
                warm::run(&client, &options, &progress).await
            })?;
            print(&if json {
                pretty(&report)?
            } else {
                report.render()
            })?;
            if !report.is_success() {
                return Ok(ExitCode::FAILURE);
            }
        }
        Command::Reload { daemon } => say(&ask(&daemon, async |client| client.reload().await)?)?,
        Command::Upgrade {
            daemon,
            program,
            new_config,
        } => {
            let absolute = |path: Option<PathBuf>| path.map(std::path::absolute).transpose();
            let what = UpgradeRequest {
                program: absolute(program).context("finding the new program")?,
                config: absolute(new_config).context("finding the new configuration")?,
            };
            say(&ask(&daemon, async |client| client.upgrade(&what).await)?)?;
        }
        Command::Drain { daemon, deadline } => {
            say(&ask(&daemon, async |client| client.drain(deadline).await)?)?;
        }
        Command::Purge {
            daemon,
            urls,
            prefix: prefixes,
            tag: tags,
            site: sites,
            hard,
            json,
        } => {
            let what = PurgeRequest {
                urls: with_standard_input(urls)?,
                prefixes,
                tags,
                sites,
                hard,
            };
            let purged = ask(&daemon, async |client| client.purge(&what).await)?;
            if json {
                print(&pretty(&purged)?)?;
            } else {
                say(&purged.message)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The daemon, until it is stopped.
fn run(config: PathBuf, on_ready: impl FnOnce(&app::Bound) + Send + 'static) -> anyhow::Result<()> {
    let checked = sovereign_config::load(&config)?;
    terms::ask_once(&checked);
    app::run(app::Start {
        config_path: Some(config),
        config: checked,
        args: std::env::args_os().skip(1).collect::<Vec<OsString>>(),
        on_ready: Box::new(on_ready),
    })
}

fn check(path: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let mut notes = Vec::new();
    let (problems, certificates, warnings) = match sovereign_config::load(path) {
        Err(report) => (Some(report), Vec::new(), Vec::new()),
        Ok(config) => {
            let (errors, warnings) = tls::check(&config.sites);
            notes = certificates::notes(&config);
            (None, chains(errors), chains(warnings))
        }
    };
    let sound = problems.is_none() && certificates.is_empty();
    if json {
        print(&pretty(&serde_json::json!({
            "file": path.display().to_string(),
            "ok": sound,
            "problems": problems.map(|report| report.problems).unwrap_or_default(),
            "certificates": certificates,
            "warnings": warnings,
            "notes": notes,
        }))?)?;
    } else {
        for warning in warnings {
            eprint(&format!("warning: {warning}"));
        }
        for problem in certificates {
            eprint(&format!("error: {problem}"));
        }
        match problems {
            Some(report) => eprint(&report.to_string()),
            None if sound => say(&format!("{}: no problems", path.display()))?,
            None => {}
        }
        for note in notes {
            say(&format!("note: {note}"))?;
        }
    }
    Ok(if sound {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(PROBLEM)
    })
}

fn init(file: &Path, force: bool) -> anyhow::Result<()> {
    let template = sovereign_config::template();
    if file.as_os_str() == "-" {
        return print(&template);
    }
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    if !force {
        options.create_new(true);
    }
    let shown = file.display();
    let mut written = match options.open(file) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            anyhow::bail!("{shown} exists: --force replaces it")
        }
        opened => opened.with_context(|| format!("opening {shown}"))?,
    };
    written
        .write_all(template.as_bytes())
        .with_context(|| format!("writing {shown}"))?;
    say(&format!(
        "wrote {shown}: fill in the site's names and its upstream, then\n  \
         sovereign-proxy check --config {shown}"
    ))
}

/// The arguments, with the lines of standard input in the place of each '-'.
fn with_standard_input(arguments: Vec<String>) -> anyhow::Result<Vec<String>> {
    let mut all = Vec::new();
    for argument in arguments {
        if argument != "-" {
            all.push(argument);
            continue;
        }
        let mut text = String::new();
        io::stdin()
            .lock()
            .take(MOST_INPUT + 1)
            .read_to_string(&mut text)
            .context("reading standard input")?;
        anyhow::ensure!(
            text.len() as u64 <= MOST_INPUT,
            "standard input has more than {MOST_INPUT} bytes, which is the most at once: one \
             --prefix, --tag or --site purges any number of pages"
        );
        let lines = text.lines().map(str::trim);
        all.extend(lines.filter(|line| !line.is_empty()).map(str::to_owned));
    }
    Ok(all)
}

/// Asks the running proxy something.
fn ask<T, E: std::error::Error + Send + Sync + 'static>(
    daemon: &Daemon,
    question: impl AsyncFnOnce(Client) -> Result<T, E>,
) -> anyhow::Result<T> {
    let client = Client::new(admin_socket(daemon)?);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    Ok(runtime.block_on(question(client))?)
}

/// The socket that was named; else the one of the default configuration, unless only the
/// demonstration answers.
fn admin_socket(daemon: &Daemon) -> anyhow::Result<PathBuf> {
    let named = daemon.admin.clone().or_else(|| {
        let unless_a_file_is_named = daemon.config.is_none();
        unless_a_file_is_named
            .then(|| std::env::var_os(args::ADMIN).map(PathBuf::from))
            .flatten()
    });
    if let Some(socket) = named {
        // As the configuration writes it, or as a path.
        let path = socket.to_str().and_then(|text| text.strip_prefix("unix:"));
        return Ok(path.map_or_else(|| socket.clone(), PathBuf::from));
    }
    if let Some(config) = &daemon.config {
        return Ok(sovereign_config::load(config)?.admin);
    }
    let answers = |socket: &Path| UnixStream::connect(socket).is_ok();
    let default = Path::new(args::CONFIG);
    let configured = default
        .exists()
        .then(|| sovereign_config::load(default).map(|config| config.admin));
    let demonstration = demonstration::default_state().map(|state| state.join("admin.sock"));
    match (configured, demonstration) {
        (Some(Ok(socket)), _) if answers(&socket) => Ok(socket),
        (_, Ok(socket)) if answers(&socket) => Ok(socket),
        (Some(configured), _) => Ok(configured?),
        (None, _) => anyhow::bail!(
            "no sovereign-proxy to talk to: there is no {}, and the demonstration does not \
             run; name a socket with --admin or a configuration with --config",
            args::CONFIG
        ),
    }
}

/// Each error with its causes, on one line.
fn chains<E: std::error::Error + Send + Sync + 'static>(errors: Vec<E>) -> Vec<String> {
    let chain = |error: E| format!("{:#}", anyhow::Error::new(error));
    errors.into_iter().map(chain).collect()
}

fn pretty(value: &impl serde::Serialize) -> anyhow::Result<String> {
    let text = serde_json::to_string_pretty(value).context("writing JSON")?;
    Ok(text + "\n")
}

fn say(line: &str) -> anyhow::Result<()> {
    print(&format!("{line}\n"))
}

/// To standard output; a reader that has seen enough is no failure.
fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("writing to standard output"),
    }
}

/// To standard error; where that is closed, nobody wants to know.
fn eprint(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// The exit code of wrong usage, which clap uses as well, and of a configuration with problems.
const PROBLEM: u8 = 2;
/// Bytes of URLs from standard input; the admin API takes as many, and what JSON adds.
const MOST_INPUT: u64 = MOST_BYTES as u64;
