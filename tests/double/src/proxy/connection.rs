//! One connection through the proxy.

use super::{Cut, Knobs, Shared, Stall};
use crate::{script::Random, state::lock};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
};

const SEGMENT: usize = 1460;
/// What is read at once, unless that would be more than a twentieth of a second's worth.
const CHUNK: usize = 16 * 1024;
/// Chunks that are under way in one direction while latency holds them up.
const UNDER_WAY: usize = 256;
/// How often a connection that stands still looks whether it may go on.
const LOOK: Duration = Duration::from_millis(5);

/// Why a connection does not end by itself.
struct CutOff;

pub(super) struct Connection {
    shared: Arc<Shared>,
    own: Option<Knobs>,
    number: u64,
    /// Bytes that came from the client.
    up: AtomicU64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Up,
    Down,
}

/// Counts a connection as open while it lasts, however it ends.
struct Open(Arc<Shared>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.counters.open.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Connection {
    pub fn new(shared: Arc<Shared>, own: Option<Knobs>, number: u64) -> Connection {
        Connection { shared, own, number, up: AtomicU64::new(0) }
    }

    fn knobs(&self) -> Knobs {
        self.own.clone().unwrap_or_else(|| lock(&self.shared.knobs).clone())
    }

    fn random(&self, way: Way) -> Random {
        Random::new(self.knobs().seed ^ (self.number << 1 | u64::from(way == Way::Up)).wrapping_mul(0x9e37_79b9))
    }

    pub async fn run(self, mut client: TcpStream) {
        let mut cut = self.shared.cut.subscribe();
        self.shared.counters.open.fetch_add(1, Ordering::SeqCst);
        let _open = Open(Arc::clone(&self.shared));
        let knobs = self.knobs();
        if knobs.refuse {
            return self.reset(&[&client]);
        }
        if knobs.blackhole {
            let _ = cut.changed().await;
            return self.reset(&[&client]);
        }
        let upstream = *lock(&self.shared.upstream);
        let Ok(mut server) = TcpStream::connect(upstream).await else {
            let _ = client.set_zero_linger();
            return;
        };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let is_cut = {
            let (from_client, to_client) = client.split();
            let (from_server, to_server) = server.split();
            let both = async {
                tokio::try_join!(
                    self.pump(Way::Up, from_client, to_server),
                    self.pump(Way::Down, from_server, to_client)
                )
            };
            tokio::select! {
                ended = both => ended.is_err(),
                _ = cut.changed() => true,
            }
        };
        if is_cut {
            self.reset(&[&client, &server]);
        }
    }

    /// With nothing to linger for, closing sends a reset.
    fn reset(&self, streams: &[&TcpStream]) {
        self.shared.counters.cut.fetch_add(1, Ordering::SeqCst);
        for stream in streams {
            let _ = stream.set_zero_linger();
        }
    }

    /// One direction: what is read waits in a queue until it is time for it to arrive.
    async fn pump(&self, way: Way, from: ReadHalf<'_>, to: WriteHalf<'_>) -> Result<(), CutOff> {
        let (queue, queued) = mpsc::channel(UNDER_WAY);
        tokio::try_join!(self.read(way, from, queue), self.write(way, to, queued))?;
        Ok(())
    }

    async fn read(
        &self,
        way: Way,
        mut from: ReadHalf<'_>,
        queue: mpsc::Sender<(Instant, Vec<u8>)>,
    ) -> Result<(), CutOff> {
        let mut random = self.random(way);
        loop {
            self.stand_still(way).await;
            let mut chunk = vec![0; self.step(way)];
            let read = match from.read(&mut chunk).await {
                Ok(0) => return Ok(()),
                Ok(read) => read,
                Err(_) => return Err(CutOff),
            };
            chunk.truncate(read);
            // What was set while this waited for bytes holds for these bytes.
            self.stand_still(way).await;
            let knobs = self.knobs();
            if lost(&knobs, read, &mut random) {
                sleep(Duration::from_millis(200 + random.next() % 801)).await;
            }
            if let Some(rate) = knobs.rate {
                sleep(Duration::from_secs_f64(read as f64 / rate.max(1) as f64)).await;
            }
            let cut = way == Way::Up && self.cuts(&knobs, &mut chunk);
            if queue.send((Instant::now() + knobs.latency, chunk)).await.is_err() {
                return Err(CutOff);
            }
            if cut {
                // The writer has this much time for what came before the cut.
                sleep(knobs.latency + Duration::from_millis(20)).await;
                return Err(CutOff);
            }
        }
    }

    /// How much to read at once.
    fn step(&self, way: Way) -> usize {
        let knobs = self.knobs();
        let step = knobs.rate.map_or(CHUNK as u64, |rate| (rate / 20).clamp(1, CHUNK as u64));
        match knobs.stall_after {
            // Not a byte more than may pass.
            Some(after) if way == Way::Up => {
                step.min(after - self.up.load(Ordering::SeqCst).min(after)).max(1) as usize
            }
            _ => step as usize,
        }
    }

    /// Whether the connection is cut within this chunk, which then ends there.
    fn cuts(&self, knobs: &Knobs, chunk: &mut Vec<u8>) -> bool {
        let before = self.up.fetch_add(chunk.len() as u64, Ordering::SeqCst);
        let at = match knobs.cut {
            None => return false,
            Some(Cut::After(at)) => at,
            Some(Cut::Within(below)) => Random::new(knobs.seed.wrapping_add(self.number)).next() % below.max(1),
        };
        if before + (chunk.len() as u64) < at {
            return false;
        }
        chunk.truncate(at.saturating_sub(before) as usize);
        true
    }

    async fn write(
        &self,
        way: Way,
        mut to: WriteHalf<'_>,
        mut queued: mpsc::Receiver<(Instant, Vec<u8>)>,
    ) -> Result<(), CutOff> {
        let counter = match way {
            Way::Up => &self.shared.counters.up,
            Way::Down => &self.shared.counters.down,
        };
        while let Some((due, chunk)) = queued.recv().await {
            sleep_until(due).await;
            if to.write_all(&chunk).await.is_err() {
                return Err(CutOff);
            }
            counter.fetch_add(chunk.len() as u64, Ordering::SeqCst);
        }
        let _ = to.shutdown().await;
        Ok(())
    }

    async fn stand_still(&self, way: Way) {
        loop {
            let knobs = self.knobs();
            let stands = match knobs.stall {
                Stall::None => false,
                Stall::Up => way == Way::Up,
                Stall::Down => way == Way::Down,
                Stall::Both => true,
            };
            if !stands && knobs.stall_after.is_none_or(|after| self.up.load(Ordering::SeqCst) < after) {
                return;
            }
            sleep(LOOK).await;
        }
    }
}

/// Whether any of the segments that these bytes would fill is lost.
fn lost(knobs: &Knobs, bytes: usize, random: &mut Random) -> bool {
    knobs.loss_percent > 0.0
        && (0..bytes.div_ceil(SEGMENT)).fold(false, |lost, _| lost | (random.unit() * 100.0 < knobs.loss_percent))
}
