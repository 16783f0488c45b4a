//! Sources take turns by piece: one of them is packed at a time, since what is slow is the sources.
//!
//! Each has a thread of its own all the same, so that a read that hangs, which nobody can interrupt, keeps the others
//! only for a moment: from then on it is passed over, until it goes on. Its draft keeps its room meanwhile; others that
//! find none left wait for it. If it goes on while another is packed, both do, and are one at a time again after that.
//!
//! A source that is paused has no turns.
//!
//! It ends last of all in a run that ends by itself, because a piece that is found rotten farther down comes back to it.

use super::{
    archiving::{Turn, Turned},
    context::Context,
    finish::Ended,
    spec::{Options, SourceSpec},
    stages,
};
use crate::{
    archive::tree::Pulse,
    catalog::PieceRow,
    name::SourceName,
    staging::{Packed, Piece, Stop},
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel},
    },
    thread,
    time::Duration,
};

/// How often an idle archiver looks around by itself; a ring of the bell wakes it at once.
const IDLE_WAIT: Duration = Duration::from_secs(1);
/// How often a turn that is not over is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

pub fn run(ctx: &Context, out: SyncSender<Piece<Packed>>) {
    thread::scope(|scope| {
        go_round(ctx, |spec, options| Seat::take(ctx, scope, Turn::new(spec, options), out.clone()));
    });
}

/// What the run has of the thread of a source. Dropping it lets the thread end, when its turn does.
struct Seat {
    name: SourceName,
    pulse: Pulse,
    /// Its own, so that it is seen if it hangs in anything but the source; that is told by itself.
    stop: Stop,
    /// Every turn is taken with what is configured then.
    go: SyncSender<Context>,
    done: Receiver<Turned>,
    /// Its turn was not over when the next one had to have theirs.
    is_away: bool,
    is_held: bool,
}

impl Seat {
    fn take<'scope>(
        ctx: &'scope Context,
        scope: &'scope thread::Scope<'scope, '_>,
        mut turn: Turn,
        out: SyncSender<Piece<Packed>>,
    ) -> Option<Seat> {
        let ((go, goes), (ended, done)) = (sync_channel::<Context>(1), sync_channel(1));
        let name = turn.source().clone();
        let work = move || {
            for ctx in goes {
                // From here on it is seen if it hangs.
                if ctx.is_stopping() {
                    return;
                }
                let turned = turn.take(&ctx, &out);
                ctx.stop.rest();
                if ended.send(turned).is_err() {
                    return;
                }
            }
        };
        let pulse = ctx.pulse.of(name.as_str());
        let asks = pulse.clone();
        let stop = ctx.stop.watched(stages::ARCHIVER, Some(Box::new(move |looked| asks.has_asked_since(looked))));
        stop.rest();
        let seat = Seat { name, pulse, stop, go, done, is_away: false, is_held: false };
        stages::start_within(ctx, scope, stages::ARCHIVER, work).then_some(seat)
    }

    /// Lets it work, or goes on waiting for it, until its turn is over; nothing when it hangs.
    fn turn(&mut self, ctx: &Context) -> Option<Turned> {
        if !self.is_away && self.go.send(ctx.with_stop(self.stop.clone())).is_err() {
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

    /// Whether a turn is under way that was not waited for.
    fn is_still_away(&self) -> bool {
        self.is_away && matches!(self.done.try_recv(), Err(TryRecvError::Empty))
    }
}

/// Makes sure that every source that is configured has a seat, in order. One that is not any more keeps its own until
/// its turn is over: a second one beside it would archive the same.
fn seat_all(
    seats: Vec<Seat>,
    options: &Arc<Options>,
    seat: impl Fn(&SourceSpec, &Arc<Options>) -> Option<Seat>,
) -> Option<Vec<Seat>> {
    let mut known: BTreeMap<SourceName, Seat> = seats.into_iter().map(|seat| (seat.name.clone(), seat)).collect();
    let configured = |spec: &SourceSpec| known.remove(&spec.name).or_else(|| seat(spec, options));
    let mut seated = options.sources.iter().map(configured).collect::<Option<Vec<_>>>()?;
    seated.extend(known.into_values().filter(Seat::is_still_away));
    Some(seated)
}

fn go_round(ctx: &Context, seat: impl Fn(&SourceSpec, &Arc<Options>) -> Option<Seat>) {
    let mut seats = Vec::new();
    while !ctx.is_stopping() {
        let (rings, now) = (ctx.bell.rings(), ctx.renewed());
        let Some(seated) = seat_all(seats, &now.options, &seat) else { return stages::cannot_start(ctx) };
        seats = seated;
        let (mut worked, mut waits) = (false, false);
        for seat in seats.iter_mut().take(now.options.sources.len()) {
            if ctx.paused().rests(&seat.name) {
                // Somebody waits for the end of a run that is to end by itself.
                seat.is_held = now.options.once;
                continue;
            }
            match seat.turn(&now) {
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
        if now.options.once && !waits && !is_busy(&now, &seats) {
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
        let source = &seat.name;
        !seat.is_held && !ctx.is_abandoned(source) && ctx.catalog.open_pass(source).map_or(true, |pass| pass.is_some())
    };
    under_way || seats.iter().any(is_open)
}
