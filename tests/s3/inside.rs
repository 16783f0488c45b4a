//! The pipeline in this process, where the hours are what a test says they are.

use crate::{tools::PART, world::World};
use archiver::{
    archive::{filter, pack},
    catalog::Catalog,
    compress,
    name::Compression,
    notice::{Monitor, Notice},
    pipeline::{self, AlwaysOpen, Finish, Live, Names, Parts, SourceSpec, Wait, WindowGate},
    staging::Stop,
    upload::{self, Gate, Retries},
    vault::s3::{self, Identity, Patience, S3Vault},
    window::Window,
};
use jiff::Timestamp;
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// A clock that goes when it is told to.
pub struct Hours(AtomicI64);

impl Hours {
    pub fn at(text: &str) -> Arc<Hours> {
        let hours = Arc::new(Hours(AtomicI64::new(0)));
        hours.set(text);
        hours
    }

    pub fn set(&self, text: &str) {
        self.0.store(text.parse::<Timestamp>().unwrap().as_millisecond(), Ordering::SeqCst);
    }

    pub fn pass(&self, time: Duration) {
        self.0.fetch_add(time.as_millis() as i64, Ordering::SeqCst);
    }

    pub fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(self.0.load(Ordering::SeqCst)).unwrap()
    }

    pub fn since(&self, then: Timestamp) -> Duration {
        Duration::try_from(self.now().duration_since(then)).unwrap()
    }
}

/// Remembers what it is told, by the first words of each.
#[derive(Default)]
pub struct Ears(Mutex<Vec<String>>);

impl Monitor for Ears {
    fn notice(&self, notice: &Notice) {
        self.0.lock().unwrap().push(format!("{notice:?}"));
    }
}

impl Ears {
    pub fn count(&self, kind: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|told| told.starts_with(kind)).count()
    }

    pub fn last(&self, count: usize) -> String {
        let told = self.0.lock().unwrap();
        told[told.len().saturating_sub(count)..].join("\n")
    }
}

/// What a run in this process is made of.
pub struct Inside {
    pub hours: Arc<Hours>,
    pub wait: Wait,
    pub window: Option<&'static str>,
    pub concurrency: usize,
    pub patience: Patience,
    pub retries: Retries,
}

pub struct Going {
    pub ears: Arc<Ears>,
    stop: Stop,
    cancel: CancellationToken,
    work: JoinHandle<Finish>,
}

impl Going {
    pub fn is_over(&self) -> bool {
        self.work.is_finished()
    }

    pub fn end(self) -> Finish {
        self.stop.tell();
        self.cancel.cancel();
        self.work.join().unwrap()
    }
}

impl Inside {
    /// Starts a daemon in a world.
    pub fn start(&self, world: &World) -> Going {
        let (stop, cancel, ears) = (Stop::default(), CancellationToken::new(), Arc::<Ears>::default());
        let hours = self.hours.clone();
        let clock: pipeline::Clock = Arc::new(move || hours.now());
        let gate: Arc<dyn Gate> = match self.window {
            None => Arc::new(AlwaysOpen),
            Some(span) => {
                let window = Window::parse(&[span.to_owned()]).unwrap();
                Arc::new(WindowGate::new(window, jiff::tz::TimeZone::UTC, clock.clone(), ears.clone()))
            }
        };
        let (options, wait) = (self.options(world), self.wait.clone());
        let vault = s3::Options {
            bucket: crate::tools::BUCKET.to_owned(),
            prefix: "lab".to_owned(),
            region: None,
            endpoint_url: Some(world.endpoint.clone()),
            path_style: true,
            identity: Identity::File { path: world.path("credentials"), profile: None },
            patience: self.patience.clone(),
        };
        let (own_stop, own_cancel, monitor) = (stop.clone(), cancel.clone(), ears.clone());
        let work = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
            let catalog = Catalog::open(&options.state.join("catalog.sqlite")).unwrap();
            let live = Live::new(options, Arc::new(runtime.block_on(S3Vault::open(vault))));
            let runtime = runtime.handle().clone();
            let (stop, cancel) = (own_stop, own_cancel);
            let ready = Box::new(|| ());
            pipeline::run(Parts { live, catalog, monitor, clock, wait, stop, cancel, gate, runtime, ready })
        });
        Going { ears, stop, cancel, work }
    }

    fn options(&self, world: &World) -> pipeline::Options {
        let source = SourceSpec {
            name: "data".parse().unwrap(),
            path: world.path("source"),
            filter: filter::Options { exclude: Vec::new(), include: Vec::new(), exclude_tag: None },
            one_file_system: false,
            require_mount: false,
            repeat: None,
            pass_now: false,
        };
        pipeline::Options {
            sources: vec![source],
            state: world.path("state"),
            staging: world.path("staging"),
            cap: 64 * PART,
            pack: pack::Options {
                retries: 3,
                max_size: 16 * PART,
                max_members: 1_000_000,
                mark_bytes: 1 << 30,
                mark_every: Duration::from_secs(600),
            },
            compress: compress::Options::for_method(Compression::None),
            encrypt: None,
            upload: upload::Options {
                part_size: PART,
                concurrency: self.concurrency,
                retries: self.retries,
                bandwidth: None,
            },
            storage_class: "DEEP_ARCHIVE".to_owned(),
            names: Names::Plain,
            host: "nas1".to_owned(),
            own: vec![world.path("staging"), world.path("state")],
            prices: None,
            silence: None,
            once: false,
            give_up_after: None,
        }
    }
}
