//! A bad network: a TCP proxy in front of any server, that cuts, stalls, refuses, swallows, delays and slows down.
//!
//! Lost packets cannot be had without the kernel's help. What an application sees of them is a pause of a connection
//! until the segment is sent again, and that is what [`Knobs::loss_percent`] does: for each segment of 1460 bytes the
//! given chance of a pause of 200 to 1000 ms, during which nothing of that direction passes.

use crate::{script::Random, state::lock};
use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    runtime::Runtime,
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

const STOP_MAX: Duration = Duration::from_secs(5);
const SEGMENT: usize = 1460;
/// What is read at once, unless that would be more than a twentieth of a second's worth.
const CHUNK: usize = 16 * 1024;
/// Chunks that are under way in one direction while latency holds them up.
const UNDER_WAY: usize = 256;
/// How often a connection that stands still looks whether it may go on.
const LOOK: Duration = Duration::from_millis(5);

/// Where a connection is cut, in bytes that came from the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// After exactly so many.
    After(u64),
    /// After a number of bytes below this one, other for each connection, the same for the same seed.
    Within(u64),
}

/// Which way nothing passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stall {
    /// All passes.
    #[default]
    None,
    /// From the client to the server.
    Up,
    /// From the server to the client: answers are lost.
    Down,
    /// Both ways.
    Both,
}

/// How bad the network is. The default is a good one.
#[derive(Clone, Debug, Default)]
pub struct Knobs {
    /// Resets the connection, at both ends, as a router that fails.
    pub cut: Option<Cut>,
    /// Stops forwarding and keeps open.
    pub stall: Stall,
    /// Stops forwarding, both ways, after so many bytes from the client.
    pub stall_after: Option<u64>,
    /// Resets new connections at once.
    pub refuse: bool,
    /// Accepts new connections and reads nothing.
    pub blackhole: bool,
    /// How much later everything arrives, each way.
    pub latency: Duration,
    /// Bytes per second and connection, each way.
    pub rate: Option<u64>,
    /// Of a hundred segments, so many are lost. See the module.
    pub loss_percent: f64,
    /// The seed of all chance.
    pub seed: u64,
}

/// What has passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Connections that were accepted, refused ones too.
    pub connections: u64,
    /// Those of them that are open.
    pub open: u64,
    /// Those that were reset on purpose.
    pub cut: u64,
    /// Bytes that were forwarded to the server.
    pub up: u64,
    /// Bytes that were forwarded to the client.
    pub down: u64,
}

#[derive(Default)]
struct Counters {
    connections: AtomicU64,
    open: AtomicU64,
    cut: AtomicU64,
    up: AtomicU64,
    down: AtomicU64,
}

struct Shared {
    upstream: Mutex<SocketAddr>,
    knobs: Mutex<Knobs>,
    next: Mutex<VecDeque<Knobs>>,
    counters: Counters,
    /// Changes when all connections are to be cut.
    cut: watch::Sender<u64>,
}

/// A running proxy. It stops when it is dropped, and resets what is open.
pub struct Proxy {
    shared: Arc<Shared>,
    address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Proxy {
    /// Starts in front of a server.
    ///
    /// # Panics
    /// If it cannot listen.
    pub fn start(upstream: SocketAddr) -> Proxy {
        let shared = Arc::new(Shared {
            upstream: Mutex::new(upstream),
            knobs: Mutex::default(),
            next: Mutex::default(),
            counters: Counters::default(),
            cut: watch::Sender::new(0),
        });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("bad-network")
            .enable_all()
            .build()
            .expect("a thread for the proxy");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port for the proxy");
        let address = listener.local_addr().expect("the proxy's port");
        listener.set_nonblocking(true).expect("a listener that does not block");
        let listener = {
            let _inside = runtime.enter();
            TcpListener::from_std(listener).expect("a listener of the runtime")
        };
        runtime.spawn(accept(listener, Arc::clone(&shared)));
        Proxy { shared, address, runtime: Some(runtime) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens, as a URL.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Sets what holds for all connections, those that are open too.
    pub fn set(&self, knobs: Knobs) {
        *lock(&self.shared.knobs) = knobs;
    }

    /// Changes what holds for all connections.
    pub fn change(&self, change: impl FnOnce(&mut Knobs)) {
        change(&mut lock(&self.shared.knobs));
    }

    /// Sets what holds for the next connection, and for it alone, as long as it lasts. Called again: for the one after.
    pub fn next(&self, knobs: Knobs) {
        lock(&self.shared.next).push_back(knobs);
    }

    /// Resets all open connections now.
    pub fn cut_all(&self) {
        self.shared.cut.send_modify(|generation| *generation += 1);
    }

    /// Sends new connections to another server.
    pub fn redirect(&self, upstream: SocketAddr) {
        *lock(&self.shared.upstream) = upstream;
    }

    /// What has passed so far.
    pub fn passed(&self) -> Passed {
        let counters = &self.shared.counters;
        let of = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
        Passed {
            connections: of(&counters.connections),
            open: of(&counters.open),
            cut: of(&counters.cut),
            up: of(&counters.up),
            down: of(&counters.down),
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let Some(runtime) = self.runtime.take() else { return };
        let stopping = std::thread::spawn(move || runtime.shutdown_timeout(STOP_MAX));
        let _ = stopping.join();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else {
                    sleep(Duration::from_millis(10)).await;
                    continue;
                };
                let number = shared.counters.connections.fetch_add(1, Ordering::SeqCst);
                let own = lock(&shared.next).pop_front();
                connections.spawn(Connection::new(Arc::clone(&shared), own, number).run(client));
            }
            Some(_) = connections.join_next() => (),
        }
    }
}

/// Why a connection does not end by itself.
struct CutOff;

struct Connection {
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
    fn new(shared: Arc<Shared>, own: Option<Knobs>, number: u64) -> Connection {
        Connection { shared, own, number, up: AtomicU64::new(0) }
    }

    fn knobs(&self) -> Knobs {
        self.own.clone().unwrap_or_else(|| lock(&self.shared.knobs).clone())
    }

    fn random(&self, way: Way) -> Random {
        Random::new(self.knobs().seed ^ (self.number << 1 | u64::from(way == Way::Up)).wrapping_mul(0x9e37_79b9))
    }

    async fn run(self, mut client: TcpStream) {
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
            let written: io::Result<()> = to.write_all(&chunk).await;
            if written.is_err() {
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
