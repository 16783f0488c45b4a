//! Sources take turns by piece: one of them is packed at a time, since what is slow is the sources.
//!
//! Each has a thread of its own all the same, so that a read that hangs, which nobody can interrupt, keeps the others
//! only for a moment: from then on it is passed over, until it goes on. Its draft keeps its room meanwhile; others that
//! find none left wait for it. If it goes on while another is packed, both do, and are one at a time again after that.
//!
//! It ends last of all in a run that ends by itself, because a piece that is found rotten farther down comes back to it.

use super::{
    archiving::{Turn, Turned},
    context::{Context, Ended},
    spec::SourceSpec,
    stages,
};
use crate::{
    archive::tree::Pulse,
    catalog::PieceRow,
    staging::{Packed, Piece},
};
use std::{
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel},
    thread,
    time::Duration,
};

/// How often an idle archiver looks around by itself; a ring of the bell wakes it at once.
const IDLE_WAIT: Duration = Duration::from_secs(1);
/// How often a turn that is not over is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

pub fn run(ctx: &Context, out: SyncSender<Piece<Packed>>) {
    thread::scope(|scope| {
        let mut seats = Vec::new();
        for spec in &ctx.options.sources {
            let Some(seat) = Seat::take(ctx, scope, spec, out.clone()) else { return stages::cannot_start(ctx) };
            seats.push(seat);
        }
        drop(out);
        go_round(ctx, &mut seats);
    });
}

/// What the run has of the thread of a source. Dropping it lets the thread end, when its turn does.
struct Seat<'a> {
    spec: &'a SourceSpec,
    pulse: Pulse,
    go: SyncSender<()>,
    done: Receiver<Turned>,
    /// Its turn was not over when the next one had to have theirs.
    is_away: bool,
    is_held: bool,
}

impl<'a> Seat<'a> {
    fn take<'scope>(
        ctx: &'scope Context,
        scope: &'scope thread::Scope<'scope, '_>,
        spec: &'scope SourceSpec,
        out: SyncSender<Piece<Packed>>,
    ) -> Option<Seat<'scope>> {
        let ((go, goes), (ended, done)) = (sync_channel(1), sync_channel(1));
        let work = move || {
            let mut turn = Turn::new(spec);
            for () in goes {
                if ended.send(turn.take(ctx, &out)).is_err() {
                    return;
                }
            }
        };
        let pulse = ctx.pulse.of(spec.name.as_str());
        let seat = Seat { spec, pulse, go, done, is_away: false, is_held: false };
        stages::start_within(ctx, scope, stages::ARCHIVER, work).then_some(seat)
    }

    /// Lets it work, or goes on waiting for it, until its turn is over; nothing when it hangs.
    fn turn(&mut self, ctx: &Context) -> Option<Turned> {
        if !self.is_away && self.go.send(()).is_err() {
            return Some(Turned::Stopped);
        }
        self.is_away = true;
        loop {
            let turned = match self.done.try_recv() {
                Err(TryRecvError::Empty) if self.pulse.stands_still(stages::STILL_AFTER).is_some() => return None,
                Err(TryRecvError::Empty) => match self.done.recv_timeout(LOOK_EVERY) {
                    Err(RecvTimeoutError::Timeout) if !ctx.is_stopping() => continue,
                    turned => turned.unwrap_or(Turned::Stopped),
                },
                turned => turned.unwrap_or(Turned::Stopped),
            };
            self.is_away = false;
            self.is_held = matches!(turned, Turned::Held);
            return Some(turned);
        }
    }
}

fn go_round(ctx: &Context, seats: &mut [Seat]) {
    loop {
        let rings = ctx.bell.rings();
        let (mut worked, mut waits) = (false, false);
        for seat in &mut *seats {
            match seat.turn(ctx) {
                Some(Turned::Worked) => worked = true,
                Some(Turned::Idle | Turned::Held) => {}
                Some(Turned::Later) | None => waits = true,
                Some(Turned::Stopped) => return,
            }
            if ctx.is_stopping() {
                return;
            }
        }
        if worked {
            continue;
        }
        if ctx.options.once && !waits && !is_busy(ctx, seats) {
            let held = if seats.iter().any(|seat| seat.is_held) { Ended::Held } else { Ended::Complete };
            return ctx.end(ctx.abandoned_in().map_or(held, Ended::Trouble));
        }
        ctx.bell.wait(rings, IDLE_WAIT);
    }
}

/// Whether anything is still on its way: pieces behind the archiver, or passes that have not ended. The pass of
/// a held source does not count, nor does what was abandoned.
fn is_busy(ctx: &Context, seats: &[Seat]) -> bool {
    let goes_on = |row: &PieceRow| !ctx.is_piece_abandoned(row.name());
    let under_way = ctx.catalog.undelivered().map_or(true, |pieces| pieces.iter().any(goes_on));
    let is_open = |seat: &Seat| {
        let source = &seat.spec.name;
        !seat.is_held && !ctx.is_abandoned(source) && ctx.catalog.open_pass(source).map_or(true, |pass| pass.is_some())
    };
    under_way || seats.iter().any(is_open)
}
