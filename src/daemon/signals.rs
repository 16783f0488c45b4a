//! Signals that mean something to us.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What tells us to stop.
#[derive(Clone, Copy)]
pub(super) enum StopSignal {
    Interrupt,
    Terminate,
}

impl StopSignal {
    pub(super) fn name(self) -> &'static str {
        match self {
            StopSignal::Interrupt => "SIGINT",
            StopSignal::Terminate => "SIGTERM",
        }
    }

    /// As shells tell that a signal ended a command.
    pub(super) fn exit_code(self) -> u8 {
        match self {
            StopSignal::Interrupt => 128 + 2,
            StopSignal::Terminate => 128 + 15,
        }
    }
}

/// What a signal says.
pub(super) enum Told {
    Stop(StopSignal),
    Reload,
}

pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    pub(super) fn listen() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    pub(super) async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::Stop(StopSignal::Terminate),
            _ = self.interrupt.recv() => Told::Stop(StopSignal::Interrupt),
            _ = self.hangup.recv() => Told::Reload,
        }
    }
}
