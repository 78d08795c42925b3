//! `ada-trace top SESSION`: the functions of a recording, full screen, as it goes on.
//!
//! Invariant: the terminal is as it was, whichever way this ends: by a key, a signal, an error or a panic.

mod counts;
mod model;
mod view;

use std::io::{self, IsTerminal};
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ada_query::live::{Look, Standing, follow};
use anyhow::{Context, Result, bail};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};

use self::counts::Counts;
use self::model::{Model, Wish};
use super::Question;
use super::args::TopArgs;
use super::follow::{newest_recorded, stop_flag};
use crate::cli::names::printable;
use crate::cli::open::chosen;

/// How long is waited for a key before the files are looked at again.
const WAIT: Duration = Duration::from_millis(100);

/// Shows what `args` ask for.
pub(crate) fn run(args: &TopArgs) -> Result<ExitCode> {
    if !(io::stdout().is_terminal() && io::stdin().is_terminal()) {
        bail!("top needs a terminal; `ada-trace report` prints the same numbers");
    }
    let dir = match &args.session {
        None => newest_recorded().map_or_else(|| chosen(None), Ok)?,
        named => chosen(named.as_deref())?,
    };
    let question = Question::of_recording(&dir, &args.select)?;
    let title = printable(&dir.to_string_lossy()).into_owned();
    let mut top = Top {
        model: Model::new(title, args.sort),
        every: args.every.max(WAIT),
        next: Instant::now(),
        stop: stop_flag()?,
        screen: Screen::open()?,
    };
    let mut quit = false;
    follow(
        &dir,
        &question.selection,
        |_, _| Counts::default(),
        |look| {
            let flow = top.look(&look)?;
            quit = flow.is_break();
            Ok::<_, anyhow::Error>(flow)
        },
    )?;
    while !quit {
        quit = top.keys(WAIT)?.is_break();
    }
    Ok(ExitCode::SUCCESS)
}

struct Top {
    model: Model,
    every: Duration,
    /// When the numbers are next counted.
    next: Instant,
    stop: Arc<AtomicBool>,
    screen: Screen,
}

impl Top {
    fn look(&mut self, look: &Look<'_, '_, Counts>) -> Result<ControlFlow<()>> {
        if let Some(error) = look.failed.first() {
            self.model.complaint = Some(printable(&error.to_string()).into_owned());
        }
        let is_last = look.standing != Standing::Recorded;
        if is_last || (Instant::now() >= self.next && !self.model.is_paused) {
            self.next = Instant::now() + self.every;
            self.model.update(look);
            self.draw()?;
        }
        self.keys(if look.is_behind || is_last { Duration::ZERO } else { WAIT })
    }

    /// Does what keys ask for; waits for the first one.
    fn keys(&mut self, wait: Duration) -> Result<ControlFlow<()>> {
        // Relaxed: nothing but the flag itself is passed on.
        if self.stop.load(Ordering::Relaxed) {
            return Ok(ControlFlow::Break(()));
        }
        let mut wait = wait;
        while event::poll(wait).context("cannot read keys")? {
            wait = Duration::ZERO;
            let wish = match event::read().context("cannot read keys")? {
                Event::Key(key) if key.kind != KeyEventKind::Release => self.model.key(key),
                Event::Resize(..) => Wish::Draw,
                _ => Wish::Nothing,
            };
            match wish {
                Wish::Quit => return Ok(ControlFlow::Break(())),
                Wish::Draw => self.draw()?,
                Wish::Nothing => {}
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn draw(&mut self) -> Result<()> {
        let Self { model, screen, .. } = self;
        screen.0.draw(|frame| view::draw(frame, model)).context("cannot draw")?;
        Ok(())
    }
}

/// The terminal, taken over until this is dropped; a panic gives it back before it prints.
struct Screen(DefaultTerminal);

impl Screen {
    fn open() -> Result<Self> {
        Ok(Self(ratatui::try_init().context("cannot take over the terminal")?))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}
