//! A bad network: a TCP proxy in front of any server, that cuts, stalls, refuses, swallows, delays and slows down.
//!
//! Lost packets cannot be had without the kernel's help. What an application sees of them is a pause of a connection
//! until the segment is sent again, and that is what [`Knobs::loss_percent`] does: for each segment of 1460 bytes the
//! given chance of a pause of 200 to 1000 ms, during which nothing of that direction passes.

mod connection;

use crate::state::lock;
use connection::Connection;
use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{net::TcpListener, runtime::Runtime, sync::watch, task::JoinSet, time::sleep};

const STOP_MAX: Duration = Duration::from_secs(5);

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
