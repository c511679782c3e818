//! `sovereign status`: how everything is, once, or again and again.

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::args::Status as Args;
use crate::context::{Context, Outcome};
use crate::failure::Wrong;
use crate::printer::{Look, Screen};
use crate::ssh::Connect;
use crate::status::{self, Look as Seen, Pace, Status, Survey};

/// How often it is shown anew, and how long a host is left alone between two looks.
const ANEW: Duration = Duration::from_secs(2);

/// Runs it.
pub async fn run(args: &Args, ctx: &Context) -> Result<Outcome, anyhow::Error> {
    let survey = Survey::of(ctx, &args.which).await?;
    if args.watch {
        return watch(&survey, ctx).await;
    }
    let status = {
        let _task = ctx.printer.task("looking at the hosts");
        let looks = survey.look(ctx.access().clone()).await;
        survey.status(&looks, OffsetDateTime::now_utc())
    };
    if ctx.json {
        ctx.printer.json(&status)?;
    } else {
        ctx.printer.print(&status::render(
            &status,
            OffsetDateTime::now_utc(),
            ctx.printer.look(),
        ))?;
    }
    Ok(outcome(&status))
}

/// Whether anything needs attention.
fn outcome(status: &Status) -> Outcome {
    if status.attention.is_empty() {
        Outcome::Done
    } else {
        Outcome::Differs
    }
}

/// Each host is looked at in its own time, so that one that does not answer holds up no other.
async fn watch(survey: &Survey, ctx: &Context) -> Result<Outcome, anyhow::Error> {
    let Some(screen) = Screen::start()? else {
        let hint = "without it, the status is printed once; --json is for programs";
        return Err(Wrong::new("--watch needs a terminal to draw on", hint).into());
    };
    let (send, mut seen) = mpsc::channel(survey.asked.len().max(1));
    let _lookers = lookers(survey, ctx, &send);
    let mut looks: Vec<Option<Seen>> = vec![None; survey.asked.len()];
    let mut tick = tokio::time::interval(ANEW);
    let mut ended = signal(SignalKind::terminate())?;
    loop {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => return Ok(Outcome::Done),
            _ = ended.recv() => return Ok(Outcome::Done),
            Some((place, look)) = seen.recv() => {
                if let Some(slot) = looks.get_mut(place) {
                    *slot = Some(look);
                }
            }
            _ = tick.tick() => {}
        }
        screen.draw(&frame(survey, &looks))?;
    }
}

/// Looks at each host, again and again, for as long as what this gives is held.
fn lookers(survey: &Survey, ctx: &Context, send: &mpsc::Sender<(usize, Seen)>) -> JoinSet<()> {
    let mut lookers = JoinSet::new();
    for (place, asked) in survey.asked.iter().cloned().enumerate() {
        let connect: Arc<dyn Connect> = ctx.access().clone();
        let send = send.clone();
        lookers.spawn(async move {
            let mut pace = Pace::again_and_again();
            loop {
                let look = status::look(Arc::clone(&connect), &asked, &mut pace).await;
                if send.send((place, look)).await.is_err() {
                    return;
                }
                tokio::time::sleep(ANEW).await;
            }
        });
    }
    lookers
}

fn frame(survey: &Survey, looks: &[Option<Seen>]) -> String {
    let now = OffsetDateTime::now_utc();
    let (hour, minute, second) = now.to_hms();
    let mut text = format!(
        "{}  {} {hour:02}:{minute:02}:{second:02} UTC  Ctrl-C ends\n\n",
        survey.stack(),
        now.date()
    );
    let known: Vec<Seen> = looks.iter().flatten().cloned().collect();
    let waited = survey
        .asked
        .iter()
        .zip(looks)
        .filter(|(_, look)| look.is_none());
    let waited: Vec<&str> = waited.map(|(asked, _)| asked.host.name.as_str()).collect();
    // The terminal may have another size by now.
    let look = Look::of(&std::io::stdout());
    if !known.is_empty() {
        let status = survey.status(&known, now);
        // That nothing needs attention can be said once everything was seen.
        text.push_str(&match waited.is_empty() || !status.attention.is_empty() {
            true => status::screen(&status, now, look),
            false => status::tables(&status, now, look),
        });
    }
    if !waited.is_empty() {
        text.push_str(&format!("\nlooking at {}\n", waited.join(", ")));
    }
    text
}
